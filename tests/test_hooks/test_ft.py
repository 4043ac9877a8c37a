"""Factor transfer through its two stages."""
import pytest
import torch
from conftest import TAPS

from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.losses import Paraphraser


@pytest.fixture
def ft_config(plain_config, teacher_hook):
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type='FTHook', paraphraser='stage:paraphraser', **TAPS)
    ]
    plain_config.stages = [
        dict(name='paraphraser',
             custom_hooks={
                 '1': dict(type='ParaphraserHook', teacher=TAPS['teacher'])
             },
             val_cfg=None,
             val_dataloader=None,
             val_evaluator=None),
        dict(name='distill')
    ]
    return plain_config


def last(folder):
    return torch.load(latest_checkpoint(str(folder)), weights_only=False)


def test_both_stages(ft_config, tmp_path):
    run_stages(ft_config, str(tmp_path))
    checkpoint = last(tmp_path / 'paraphraser')
    trained, state = checkpoint['state_dict'], last(tmp_path /
                                                    'distill')['state_dict']
    assert checkpoint['meta']['paraphraser'] == dict(channels=12)
    assert all(
        k.startswith(('distill.paraphraser.', 'data_preprocessor'))
        for k in trained)
    assert trained['distill.paraphraser.encoder.mean'].any()
    fresh = Paraphraser(12).state_dict()
    kept = {k for k in state if k.startswith('distill.ft.paraphraser.')}
    assert len(kept) == len(fresh) - 6  # without the decoder
    for key in kept:
        old = key.replace('ft.paraphraser', 'paraphraser.encoder')
        assert torch.equal(state[key], trained[old])
    text = ''.join(p.read_text() for p in tmp_path.glob('distill/*/*.log'))
    assert 'loss_ft' in text and 'ft_relative_error' not in text


def test_a_paraphraser_of_another_map_is_refused(ft_config, tmp_path):
    stages = ft_config.stages
    ft_config.stages = stages[:1]
    run_stages(ft_config, str(tmp_path))
    ft_config.stages = stages
    ft_config.custom_hooks[1].teacher = 'backbone[3]'
    with pytest.raises(UserError,
                       match='paraphraser in .* takes 12 channels '
                       'at stride 1, these maps need 64 at 1'):
        run_stages(ft_config, str(tmp_path))


def test_without_a_paraphraser(ft_config, tmp_path):
    ft_config.pop('stages')
    ft_config.custom_hooks[1].paraphraser = None
    run_stages(ft_config, str(tmp_path))
    state = last(tmp_path)['state_dict']
    assert not any('paraphraser' in k for k in state)
    assert 'distill.ft.translator.4.weight' in state

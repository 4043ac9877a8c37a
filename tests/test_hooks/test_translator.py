"""The translator between the stages: found, fitted, refused."""
import pytest
import torch
from conftest import TAPS, build_runner

from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.hooks.translator import load_encoder, stride
from seg_kd.losses import Paraphraser, Translator


def size(*shape):
    return torch.Size(shape)


@pytest.mark.parametrize('student, teacher, expected', [
    ((4, 6), (8, 12), 2),
    ((33, 65), (65, 129), 2),
    ((5, 3), (17, 9), 3),
    ((8, 12), (8, 12), 1),
    ((16, 24), (8, 12), 1),
])
def test_stride_is_the_ratio_of_the_grids(student, teacher, expected):
    assert stride(size(1, 3, *student), size(1, 9, *teacher)) == expected


@pytest.fixture
def checkpoint(ka_config, tmp_path):
    ka_config.stages = ka_config.stages[:1]
    run_stages(ka_config, str(tmp_path / 'ka'))
    return latest_checkpoint(str(tmp_path / 'ka/translator'))


def test_encoder_comes_back_as_it_was_trained(checkpoint):
    encoder = load_encoder(checkpoint, Translator, 12, 2)
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, state[f'distill.translator.encoder.{key}'])
    assert encoder(torch.randn(2, 12, 8, 12)).shape == (2, 6, 4, 6)


def test_encoder_for_other_maps_is_refused(checkpoint):
    with pytest.raises(UserError,
                       match='12 channels at stride 2, these maps '
                       'need 16 at 2'):
        load_encoder(checkpoint, Translator, 16, 2)
    with pytest.raises(UserError, match='need 12 at 1'):
        load_encoder(checkpoint, Translator, 12, 1)


def test_another_checkpoint_is_no_translator(teacher_checkpoint):
    with pytest.raises(UserError, match='no checkpoint of a translator'):
        load_encoder(teacher_checkpoint, Translator, 12, 2)


def test_a_translator_is_no_paraphraser(checkpoint):
    with pytest.raises(UserError, match="write paraphraser='stage:para"):
        load_encoder(checkpoint, Paraphraser, 12)


def test_a_stage_without_student_has_none_to_freeze(ka_config, tmp_path):
    ka_config.stages = ka_config.stages[:1]
    ka_config.stages[0].task = False
    ka_config.train_cfg.max_iters = 1
    run_stages(ka_config, str(tmp_path / 'ka'))
    assert latest_checkpoint(str(tmp_path / 'ka/translator'))


def test_strides_that_cannot_be_reached(ka_config):
    """Stride 8 against a student at stride 64: no three factors make 11."""
    ka_config.pop('stages')
    ka_config.custom_hooks[1] = dict(type='TranslatorHook', **TAPS)
    ka_config.model.data_preprocessor.size = (88, 88)
    ka_config.model.backbone.strides = (2, 2, 2, 2, 2, 2, 1)
    with pytest.raises(UserError, match='translator: Translator: stride 11'):
        build_runner(ka_config)

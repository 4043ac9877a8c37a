"""What a stage is, before anything runs."""
import pytest
from mmengine.config import Config

from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import fill_in, stage_configs
from seg_kd.errors import UserError


@pytest.fixture
def cfg():
    return Config(
        dict(train_cfg=dict(max_iters=90, val_interval=9),
             optim_wrapper=dict(type='OptimWrapper', clip_grad=1),
             custom_hooks=[dict(type='A', x=1),
                           dict(type='B', y=2)],
             stages=[
                 dict(name='first',
                      train_cfg=dict(max_iters=3),
                      optim_wrapper=dict(_delete_=True, type='Other'),
                      custom_hooks={'1': dict(type='C')}),
                 dict(name='second')
             ]))


def test_stages_are_changes(cfg):
    before = cfg.to_dict()
    stages = dict(stage_configs(cfg))
    assert list(stages) == ['first', 'second']
    first, second = stages.values()
    assert first.train_cfg == dict(max_iters=3, val_interval=9)
    assert first.optim_wrapper == dict(type='Other')
    assert first.custom_hooks == [dict(type='A', x=1), dict(type='C')]
    assert second.train_cfg == dict(max_iters=90, val_interval=9)
    assert second.custom_hooks == before['custom_hooks']
    assert 'stages' not in first and 'stages' not in second
    assert cfg.to_dict() == before


def test_length_as_a_share(cfg):
    cfg.stages[0].train_cfg.max_iters = 0.2
    first, second = dict(stage_configs(cfg)).values()
    assert first.train_cfg == dict(max_iters=18, val_interval=9)
    assert second.train_cfg.max_iters == 90
    cfg.stages[0].train_cfg.max_iters = 0.001
    assert dict(stage_configs(cfg))['first'].train_cfg.max_iters == 1


def test_checkpoints_of_earlier_stages_are_filled_in(cfg):
    cfg.load_from = 'stage:first'
    cfg.custom_hooks[1].y = dict(z=['stage:first'])
    fill_in(cfg, dict(first='a.pth'))
    assert cfg.load_from == 'a.pth'
    assert cfg.custom_hooks[1].y.z == ['a.pth']
    cfg.load_from = 'stage:second'
    with pytest.raises(UserError, match="there are: ..first"):
        fill_in(cfg, dict(first='a.pth'))


def test_no_stages_are_one_run(cfg):
    cfg.pop('stages')
    (name, only), = stage_configs(cfg)
    whole = dict(cfg.to_dict(), runner_type='DistillRunner')
    assert name == '' and only.to_dict() == whole
    cfg.runner_type = 'Runner'
    (_, only), = stage_configs(cfg)
    assert only.runner_type == 'Runner'


def test_without_the_only_hook(cfg):
    cfg.stages = None
    cfg.custom_hooks = dict(KDHook=None)
    (_, whole), = stage_configs(cfg)
    assert whole.custom_hooks == []


@pytest.mark.parametrize('second', [dict(), dict(name='first')])
def test_stages_have_names_of_their_own(cfg, second):
    cfg.stages[1] = second
    with pytest.raises(UserError, match='a name of its own'):
        list(stage_configs(cfg))


def test_latest_checkpoint_counts_as_numbers_do(tmp_path):
    assert latest_checkpoint(str(tmp_path)) is None
    for name in ('iter_900.pth', 'iter_1000.pth', 'iter_2000.pth.part',
                 'best_mIoU_iter_3000.pth'):
        (tmp_path / name).touch()
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_1000.pth')


def test_latest_checkpoint_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / 'run [1]*'
    folder.mkdir()
    (folder / 'iter_3.pth').touch()
    assert latest_checkpoint(str(folder)) == str(folder / 'iter_3.pth')


def test_latest_checkpoint_elsewhere(tmp_path):
    """As ``CheckpointHook(out_dir=)`` leaves it."""
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'out/iter_3.pth'))
    assert latest_checkpoint(str(tmp_path)) is None
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/iter_3.pth').touch()
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / 'out/iter_3.pth')


def test_a_stage_without_a_checkpoint_is_named(cfg):
    fill_in(cfg, dict(first=None))  # nobody asks for it
    cfg.custom_hooks[1].y = 'stage:first'
    with pytest.raises(UserError, match="stage 'first' .* in work/first"):
        fill_in(cfg, dict(first=None), 'work')

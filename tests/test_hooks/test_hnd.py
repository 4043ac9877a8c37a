"""HNDHook: trains the head of a split network, and nothing else."""
import json

import pytest
import torch
from conftest import build_runner, student
from mmengine.config import Config

from seg_kd.engine.evaluate import evaluate_student
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError


@pytest.fixture
def config(hnd_config) -> Config:
    return hnd_config


def test_the_head_learns_and_the_tail_stays(config, teacher_checkpoint):
    runner = build_runner(config)
    model = runner.model
    tail = {k: v.clone() for k, v in model.teacher_tail().state_dict().items()}
    stored = torch.load(teacher_checkpoint)['state_dict']
    assert all(torch.equal(value, stored[key]) for key, value in tail.items())
    runner.train()
    logged = runner.message_hub.log_scalars
    assert {k
            for k in logged
            if 'loss' in k} == {'train/loss_hnd', 'train/loss'}
    values = logged['train/loss_hnd'].data[0]
    assert sum(values[-3:]) < .8 * sum(values[:3])
    after = model.teacher_tail().state_dict()
    assert all(torch.equal(value, after[key]) for key, value in tail.items())


def keep(found, name):

    def hook(module, args, output):
        found.setdefault(name, output)  # a hook's value replaces the output

    return hook


def test_the_loss_is_that_of_the_split_point(config):
    """Mean squared distance of the head's map and the teacher's layer2."""
    config.train_cfg.max_iters = 1
    runner = build_runner(config)
    network, found = runner.distiller.teachers['teacher'].network, {}
    for name, module in (('student', runner.model.backbone),
                         ('teacher', network.backbone.layer2)):
        module.register_forward_hook(keep(found, name))
    runner.train()
    expected = (found['student'] - found['teacher']).square().mean()
    torch.testing.assert_close(
        runner.message_hub.get_scalar('train/loss_hnd').current(),
        expected.item(),
        rtol=1e-5,
        atol=0)


def test_the_teacher_runs_no_further_than_the_split(config):
    config.train_cfg.max_iters = 1
    runner = build_runner(config)
    network, calls = runner.distiller.teachers['teacher'].network, []
    for name in ('layer2', 'layer3'):
        network.backbone.get_submodule(name).register_forward_hook(
            lambda m, args, out, name=name: calls.append(name))
    runner.train()
    assert calls == ['layer2']


@pytest.mark.parametrize('masked', [False, True])
def test_labels_count_only_where_asked_for(config, masked):
    config.custom_hooks[1].masked = masked
    config.train_cfg.max_iters = 1
    runner = build_runner(config)
    masks = []
    runner.model.distill['hnd'].register_forward_pre_hook(
        lambda m, args: masks.append(args[2]))
    runner.train()
    assert (masks[0] is not None) == masked


def test_evaluation_of_the_whole(config, tmp_path):
    """Training's own validation, and the checkpoint read back, agree."""
    config.train_cfg.update(max_iters=3, val_interval=3)
    run_stages(config, str(tmp_path / 'work'))
    log = next((tmp_path / 'work').glob('*/vis_data/scalars.json'))
    last = json.loads(log.read_text().splitlines()[-1])
    config.work_dir = str(tmp_path / 'test')
    found = evaluate_student(config, str(tmp_path / 'work/iter_3.pth'))
    assert found['mIoU'] == pytest.approx(last['mIoU'])
    state = torch.load(tmp_path / 'work/iter_3.pth',
                       weights_only=False)['state_dict']
    assert 'decode_head.conv_seg.weight' in state
    assert 'tail.backbone.layer3.0.conv1.weight' in state


def test_resume_ends_in_the_same_weights(config, tmp_path):
    config.train_cfg.max_iters = 6
    whole = build_runner(config)
    whole.train()
    config.update(resume=True,
                  load_from=str(tmp_path / 'work/iter_3.pth'),
                  work_dir=str(tmp_path / 'again'))
    again = build_runner(config)
    again.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key


def plain_student(config):
    config.model = student()


def no_teacher(config):
    config.custom_hooks.pop(0)


def no_hook(config):
    config.custom_hooks = []


def other_teacher(config):
    config.model.teacher.decode_head.channels = 16


def a_path(config):
    config.custom_hooks[1].teacher = 'backbone[1]'


def auto_weight(config):
    config.custom_hooks[1].weight = 'auto'


def no_split_point(config):
    config.model.split = 'backbone.layer1.0.conv1'


@pytest.mark.parametrize('mistake, message', [
    (plain_student, 'head of a SplitSegmentor, not a EncoderDecoder'),
    (no_teacher, 'HNDHook needs a teacher'),
    (no_hook, "tail of SplitSegmentor has no weights.*'HNDHook'"),
    (other_teacher, r'the teacher of .* does not fit TeacherTail'),
    (a_path, 'HNDHook: the split is said in the model'),
    (auto_weight, 'give the weight as a number'),
    (no_split_point, 'cannot be a split point.*the nearest'),
])
def test_mistakes(config, mistake, message):
    config = Config(config.to_dict())
    mistake(config)
    with pytest.raises(UserError, match=message):
        build_runner(config).train()

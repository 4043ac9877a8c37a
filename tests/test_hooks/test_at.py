"""Gradient-based attention transfer: what is compared, and what learns."""
import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import TAPS, build_runner

from seg_kd.errors import UserError
from seg_kd.hooks import ATHook
from seg_kd.losses import ATLoss
from seg_kd.teacher.task_gradients import gradients, pixel_sum

IMAGE = dict(student='backbone:input', teacher='backbone:input')


@pytest.fixture
def config(plain_config, teacher_hook):
    plain_config.model.decode_head.dropout_ratio = 0.
    plain_config.train_cfg.max_iters = 2
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type='ATHook', mode='gradient', **TAPS)
    ]
    return plain_config


def started(config):
    """A runner at its first iteration, and a batch."""
    runner = build_runner(config)
    runner.model.init_weights()
    runner.student_hook.before_train(runner)
    batch = next(iter(runner.train_dataloader))
    return runner, runner.model.data_preprocessor(batch, True)


def by_hand(network, layer, index, data, task):
    """Gradient of ``task(logits)`` by what ``layer`` of a model returns."""
    seen = []
    handle = layer.register_forward_hook(
        lambda m, args, out: seen.append(out if index is None else out[index]))
    logits = network(data['inputs'].requires_grad_())
    handle.remove()
    return torch.autograd.grad(task(logits), seen, create_graph=True)[0]


@pytest.mark.parametrize('teacher', [('decode_head.bottleneck', None),
                                     ('backbone.layer1', None),
                                     ('backbone', 0)])
def test_term_and_its_gradient(config, teacher):
    path, index = teacher
    config.custom_hooks[1].teacher = path + ('' if index is None else
                                             f'[{index}]')
    runner, data = started(config)
    model, source = runner.model.train(), runner.distiller.teachers['teacher']
    plain = copy.deepcopy(model)
    del plain.distill
    for module in plain.modules():  # a copy has the hooks of its original
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    labels = torch.cat([x.gt_sem_seg.data for x in data['data_samples']])
    losses = model(**data, mode='loss')
    losses['loss_at'].backward()

    def task(logits):
        return pixel_sum(logits, labels, 255, False)

    source.taps.detach()
    target = by_hand(source.network, source.network.get_submodule(path), index,
                     data, task).detach()
    own = by_hand(plain, plain.backbone, 1, data, task)
    expected = ATLoss()(own, target, labels != 255)
    expected.backward()
    assert expected > .01
    torch.testing.assert_close(losses['loss_at'], expected)
    for (name, p), q in zip(plain.named_parameters(), model.parameters()):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5)
    learning = [p for p in plain.parameters() if p.grad is not None]
    assert len(learning) > 50 and sum(p.grad.any() for p in learning) > 50


@pytest.mark.parametrize('changes', [
    dict(),
    dict(form='paper', weight='auto'),
    dict(start=1),
    dict(form='jacobian', **IMAGE),
    dict(student=['backbone[0]', 'backbone[1]'],
         teacher=['backbone[0]', 'decode_head.bottleneck']),
])
def test_training(config, changes):
    hook = config.custom_hooks[1]
    hook.update(changes)
    runner = build_runner(config)
    source = runner.distiller.teachers['teacher']
    before = copy.deepcopy(source.network.state_dict())
    seen = []

    def keep(model, args, output):
        if runner.distiller.steps:  # none in validation
            seen.append(dict(runner.distiller.steps['teacher'].maps))

    runner.model.register_forward_hook(keep)
    runner.train()
    after = source.network.state_dict()
    assert all(torch.equal(w, after[k]) for k, w in before.items())
    assert all(p.grad is None for p in source.network.parameters())
    taught = runner.model.state_dict()

    hook.weight = 0.
    runner = build_runner(config)
    runner.train()
    alone = runner.model.state_dict()
    assert not torch.equal(taught['backbone.conv1.conv.weight'],
                           alone['backbone.conv1.conv.weight'])
    assert seen and not any(m.requires_grad for m in seen[0].values())


def test_training_in_bfloat16(config):
    config.optim_wrapper.type = 'BFloat16OptimWrapper'
    runner = build_runner(config)
    runner.train()
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_activations_ask_the_teacher_for_no_gradient(config):
    config.custom_hooks[1].mode = 'activation'
    runner = build_runner(config)
    source = runner.distiller.teachers['teacher']
    runner.train()
    assert source.taps.leaves == set()
    assert list(runner.distiller.teacher_shapes['teacher']) == [
        'decode_head.bottleneck'
    ]


def test_pixel_sum():
    logits, labels = torch.randn(2, 4, 3, 5), torch.arange(30).view(2, 3, 5)
    labels = labels % 4
    labels[1, 2] = 255
    kept = labels != 255
    expected = F.cross_entropy(logits.permute(0, 2, 3, 1)[kept],
                               labels[kept],
                               reduction='sum')
    torch.testing.assert_close(pixel_sum(logits, labels, 255, False), expected)


def test_gradients_by_the_image(config):
    """The paper's own: not normalized, so that the scale counts too."""
    config.custom_hooks[1].update(form='jacobian', **IMAGE)
    runner, data = started(config)
    model, source = runner.model.train(), runner.distiller.teachers['teacher']
    labels = torch.cat([x.gt_sem_seg.data for x in data['data_samples']])
    found = model(**data, mode='loss')['loss_at']

    def gradient(network):
        image = data['inputs'].detach().requires_grad_()
        task = pixel_sum(network(image), labels, 255, False)
        return torch.autograd.grad(task, image)[0]

    source.taps.detach()
    expected = ATLoss('jacobian')(gradient(model), gradient(source.network),
                                  labels != 255)
    assert expected > 1
    torch.testing.assert_close(found.detach(), expected)


def test_mistakes(config):
    with pytest.raises(UserError, match="mode must be .*, not 'gradients'"):
        ATHook(**TAPS, mode='gradients')
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with pytest.raises(UserError, match="student does not depend on .*'y'"):
        gradients(x.sum(), dict(x=x, y=y), 'student')
    config.custom_hooks[0].allow_other_classes = True
    with pytest.raises(UserError, match="teacher of the data's own classes"):
        build_runner(config).train()

"""Training with images that have no labels: what each part sees of them."""
import cv2
import numpy as np
import pytest
import torch
from conftest import TAPS, build_runner
from mmengine.hooks import Hook
from processes import run_on_two_ranks
from torch import nn

from seg_kd.engine.labelled import task_of_labelled
from seg_kd.engine.records import latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.hooks import at
from seg_kd.hooks.student import StudentHook
from seg_kd.networks.checkpoint import read_checkpoint


class Watch(Hook):
    """Keeps what the terms and the task saw in each iteration."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.masks, self.images, self.tasks = [], [], []

    def before_train(self, runner):
        student = next(h for h in runner.hooks if isinstance(h, StudentHook))

        def keep(model, args, kwargs, output):
            if kwargs['mode'] != 'loss':
                return
            step, = student.distiller.steps.values()
            self.masks.append(step.mask.clone())
            self.images.append(kwargs['inputs'].clone())
            self.tasks.append(output['decode.loss_ce'].item())

        runner.model.register_forward_hook(keep, with_kwargs=True)


@pytest.fixture
def config(plain_config, teacher_hook, tmp_path):
    (tmp_path / 'more').mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        image = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'more/{i}.png'), image)
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type='KDHook'),
        dict(type='BalancedHook', width=8, **TAPS)
    ]
    plain_config.train_dataloader.unlabelled = dict(img_path=str(tmp_path /
                                                                 'more'),
                                                    ratio=1.5)
    return plain_config


def trained(config, **changes):
    config = config.copy()
    config.merge_from_dict(changes)
    runner = build_runner(config)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return watch


def test_terms_count_every_pixel_and_the_task_none(config, tmp_path):
    watch = trained(config, work_dir=str(tmp_path / 'a'))
    assert len(watch.masks) == 6
    for mask in watch.masks:
        assert len(mask) == 2 + 3
        assert mask[2:].all() and not mask[:2].all() and mask[:2].any()
    # the labelled images are those of a training without the others
    alone = config.copy()
    del alone.train_dataloader['unlabelled']
    plain = trained(alone, work_dir=str(tmp_path / 'b'))
    for mixed, images in zip(watch.images, plain.images):
        assert torch.equal(mixed[:2], images)


@pytest.mark.parametrize('hook', [
    dict(type='CRDHook', queue=16, **TAPS),
    dict(type='CRDHook', negatives='instance', instances='class', **TAPS),
    dict(type='SPHook', instances='class', **TAPS),
    dict(type='SoftenedLabelsHook'),
    dict(type='ATHook', mode='gradient', **TAPS),
])
def test_what_needs_labels_does_not_count_images_without(config, hook):
    """Else each would have 255 for a class, or a task of nothing."""
    config.train_cfg.max_iters = 2
    config.custom_hooks[1:] = [hook]
    runner = build_runner(config)
    loss, = runner.model.distill.values()
    masks = []
    loss.register_forward_pre_hook(lambda _, args: masks.append(args[2]))
    runner.train()
    assert len(masks) == 2
    for mask in masks:
        assert len(mask) == 2 + 3 and mask[:2].any() and not mask[2:].any()


def test_gradients_are_of_the_labelled_pixels(config, monkeypatch):
    """The task is a mean over them, and the sum over them is compared."""
    config.train_cfg.max_iters = 1
    config.custom_hooks[1:] = [dict(type='ATHook', mode='gradient', **TAPS)]
    runner = build_runner(config)
    factors = []
    real = at.gradients
    monkeypatch.setattr(
        at, 'gradients', lambda task, *args, **kwargs:
        (factors.append(task.item()), real(task, *args, **kwargs))[1])
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    counted = sum(mask[:2].sum() for mask in watch.masks).item()
    assert factors == pytest.approx([watch.tasks[0] * counted])


def test_resumes_in_the_same_weights(config, tmp_path):
    whole, cut = str(tmp_path / 'whole'), str(tmp_path / 'cut')
    trained(config, work_dir=whole)
    trained(config, **{'work_dir': cut, 'train_cfg.max_iters': 3})
    trained(config,
            work_dir=cut,
            resume=True,
            load_from=latest_checkpoint(cut))
    a, b = (read_checkpoint(f'{folder}/iter_6.pth')['state_dict']
            for folder in (whole, cut))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('options, said', [
    (dict(img_path='nowhere'), 'nowhere is missing'),
    (dict(ratio=1.), 'is a dict of img_path, ratio and suffixes'),
    (dict(img_path='.', ration=1.), 'is a dict of img_path'),
    (dict(img_path='.', ratio=.1), 'a ratio of 0.1 adds no image'),
    (dict(img_path='.', ratio='1'), "a ratio of '1' adds no image"),
])
def test_mistakes(config, options, said):
    config.train_dataloader.unlabelled = options
    with pytest.raises(UserError, match=said):
        build_runner(config).train()


def test_needs_a_sampler_without_end(config):
    config.train_dataloader.sampler.type = 'DefaultSampler'
    with pytest.raises(UserError, match='InfiniteSampler'):
        build_runner(config).train()


RANK_SAVER = '''
import torch
from mmengine.hooks import Hook
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    """Saves which images each rank saw, and what it ends with."""
    seen = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen = (self.seen or []) + [
            [s.sample_idx for s in data_batch['data_samples']]]

    def after_train(self, runner):
        end = {k: v.detach() for k, v in runner.model.named_parameters()}
        torch.save([self.seen, end], f'rank{runner.rank}.pth')
'''


def test_two_processes_share_both_kinds(config, tmp_path):
    config.custom_hooks.append(dict(type='RankSaver'))
    config.train_cfg.max_iters = 3
    config.train_dataloader.unlabelled.ratio = 1.
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config.pop(key)
    run_on_two_ranks(config, RANK_SAVER, tmp_path)
    (first, one), (second,
                   other) = (torch.load(path)
                             for path in sorted(tmp_path.rglob('rank?.pth')))
    assert all(torch.equal(one[key], other[key]) for key in one)
    drawn = [
        i for seen in zip(first, second) for pair in zip(*seen) for i in pair
    ]
    labelled = [i for i in drawn if i < 6]  # they come first, in twos
    assert all([i < 6 for i in seen] == [True, True, False, False]
               for seen in first + second)
    assert sorted(labelled[:6]) == sorted(labelled[6:]) == list(range(6))
    others = [i for i in drawn if i >= 6]
    assert sorted(others[:5]) == sorted(others[5:10]) == list(range(6, 11))


def test_crd_counts_images_without_labels(config):
    """Each has a vector of its own, which its draws write."""
    config.train_cfg.max_iters = 2
    config.custom_hooks[1:] = [
        dict(type='CRDHook', instances='image', k=32, **TAPS)
    ]
    runner = build_runner(config)
    bank = runner.model.distill.crd.contrast.student
    before = bank.clone()
    assert len(bank) == 6 + 5
    runner.train()
    written = (bank != before).any(1)
    assert written[:6].any() and written[6:].any()


CE = dict(type='CrossEntropyLoss')
HEADS = dict(mean_over_all=dict(loss_decode=dict(CE, avg_non_ignore=False)),
             dice=dict(loss_decode=[
                 dict(CE, avg_non_ignore=True),
                 dict(type='DiceLoss', loss_weight=2.)
             ]),
             ohem=dict(loss_decode=CE,
                       sampler=dict(type='OHEMPixelSampler', min_kept=9)),
             classes_there_are=dict(type='EncHead',
                                    in_channels=[16, 32],
                                    in_index=(0, 1),
                                    num_codes=4,
                                    loss_decode=CE,
                                    loss_se_decode=dict(CE, use_sigmoid=True)),
             edges=dict(type='STDCHead',
                        in_index=0,
                        in_channels=8,
                        channels=8,
                        boundary_threshold=.1,
                        num_classes=2,
                        loss_decode=CE))


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``',
                            'ignore:For binary segmentation',
                            'ignore:``build_pixel_sampler``')
@pytest.mark.parametrize('kind', HEADS)
def test_the_task_is_of_the_labelled_images(config, kind):
    """Whatever its loss makes of a label map: as without the others."""
    config.train_cfg.max_iters = 1
    config.custom_hooks[1:] = [dict(type='FitNetHook', **TAPS)]
    given = config.model.decode_head.to_dict()
    if kind == 'classes_there_are':
        given.pop('num_convs')
        given.pop('concat_input')
    name = 'auxiliary_head' if kind == 'edges' else 'decode_head'
    config.model[name] = {**given, **HEADS[kind]}
    runner = build_runner(config)
    head, made, found = getattr(runner.model, name), [], []
    forward = head.forward
    head.forward = lambda maps: (made.append(forward(maps)), made[-1])[1]

    class Check(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            alone = type(head).loss_by_feat(head, first(made[0]),
                                            data_batch['data_samples'][:2])
            prefix = dict(edges='aux').get(kind, 'decode')
            found.extend((torch.as_tensor(outputs[f'{prefix}.{name}']),
                          value.detach().cpu().mean())
                         for name, value in alone.items())

    runner.register_hook(Check())
    runner.train()
    assert len(found) > 1
    for one, other in found:
        torch.testing.assert_close(one, other)


def test_a_loss_of_another_kind_is_refused(config):
    runner = build_runner(config)
    runner.model.decode_head = nn.Conv2d(32, 4, 1)
    runner.model.decode_head.loss_by_feat = print
    with pytest.raises(UserError, match='the loss of a Conv2d would take'):
        task_of_labelled(runner.model)


def first(made):
    return made[:2] if torch.is_tensor(made) else [x[:2] for x in made]


def test_labels_that_say_nothing_are_said(config, tmp_path, monkeypatch):
    """The images without labels do not hide it."""
    config.train_cfg.max_iters = 1
    config.custom_hooks[1:] = [dict(type='KDHook')]
    runner = build_runner(config)
    inner = runner.train_dataloader.dataset
    whole = type(inner).__getitem__

    def blank(self, index):
        sample = whole(self, index)
        sample['data_samples'].gt_sem_seg.data.fill_(255)
        return sample

    monkeypatch.setattr(type(inner), '__getitem__', blank)
    runner.train()
    log, = tmp_path.rglob('*.log')
    assert 'No pixel of the first batch has a label' in log.read_text()

"""CRD in a run: images by number, resume, equal banks in all processes."""
from types import SimpleNamespace

import pytest
import torch
from conftest import TAPS, build_runner
from mmengine.config import Config
from processes import run_on_two_ranks
from torch.utils.data import ConcatDataset

from seg_kd.errors import UserError
from seg_kd.hooks.crd import image_paths

FORMS = {
    'image': dict(instances='image', k=32),
    'pixel': dict(max_instances=40, queue=60, enqueue=16),
    'class': dict(instances='class', queue=20),
}


def hook(form, **settings):
    return dict(type='CRDHook', name=form, **TAPS, **FORMS[form], **settings)


@pytest.fixture
def config(ka_config):
    ka_config.pop('stages')
    ka_config.custom_hooks = [ka_config.custom_hooks[0]
                              ] + [hook(form) for form in FORMS]
    return ka_config


def buffers(runner):
    return {
        form: dict(runner.model.distill[form].contrast.named_buffers())
        for form in FORMS
    }


def test_rows_of_the_images_that_were_drawn(config):
    config.train_cfg.max_iters = 2
    runner = build_runner(config)
    found = buffers(runner)
    before = found['image']['student'].clone()
    assert before.shape == (6, 128)
    drawn = []
    crd = runner.hooks[[getattr(h, 'name', '')
                        for h in runner.hooks].index('image')]
    extras = crd.term.extras

    def watch(step):
        found = extras(step)
        drawn.extend(found['index'].tolist())
        return found

    crd.term.extras = watch
    seen = []
    runner.model.data_preprocessor.register_forward_pre_hook(
        lambda m, args: seen.extend(s.img_path
                                    for s in args[0]['data_samples']))
    runner.train()
    paths = image_paths(runner.train_dataloader.dataset)
    assert [paths[i] for i in drawn] == seen[:4]
    changed = (found['image']['student'] != before).any(1)
    assert changed.nonzero().flatten().tolist() == sorted(set(drawn))
    assert found['pixel']['written'] == 32
    assert set(found['class']['classes'].tolist()) <= {0, 1, 2, 3}
    assert found['class']['written'] > 0


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_resumed_run_equals_an_unbroken_one(config, tmp_path):
    """With EMA, AMP and accumulation, banks and queues included."""
    config.optim_wrapper.update(type='BFloat16OptimWrapper',
                                accumulative_counts=3)
    config.custom_hooks.append(dict(type='EMAHook', momentum=.1))
    ends = []
    for name in ('whole', 'resumed'):
        run = Config(config.to_dict())
        run.work_dir = str(tmp_path / name)
        if name == 'resumed':
            run.resume = True
            run.load_from = str(tmp_path / 'whole/iter_3.pth')
        build_runner(run).train()
        ends.append(
            torch.load(tmp_path / name / 'iter_6.pth', weights_only=False))
    whole, resumed = ends
    for state in ('state_dict', 'ema_state_dict'):
        assert whole[state].keys() == resumed[state].keys()
        for key, value in whole[state].items():
            assert torch.equal(value, resumed[state][key]), key
    trained = whole['ema_state_dict']  # MMEngine keeps them the other way
    middle = torch.load(tmp_path / 'whole/iter_3.pth',
                        weights_only=False)['ema_state_dict']
    for name in ('image.contrast.teacher', 'pixel.contrast.teacher',
                 'class.contrast.teacher'):
        key = f'module.distill.{name}'
        assert not torch.equal(trained[key], middle[key])
        assert trained[key].isfinite().all()


@pytest.mark.parametrize('wrapper', ['Repeat', 'Concat', 'both'])
def test_wrapped_data(config, wrapper):
    """An image is one image, however often a data set has it."""
    config.custom_hooks = config.custom_hooks[:2]
    config.train_cfg.max_iters = 1
    data = config.train_dataloader.dataset
    if wrapper != 'Concat':
        data = dict(type='RepeatDataset', times=3, dataset=data)
    if wrapper != 'Repeat':
        other = Config(dict(config.val_dataloader.dataset)).to_dict()
        other['pipeline'] = config.train_dataloader.dataset.pipeline
        if wrapper == 'both':
            other = dict(type='RepeatDataset', times=2, dataset=other)
        data = dict(type='ConcatDataset', datasets=[data, data, other])
    config.train_dataloader.dataset = data
    runner = build_runner(config)
    images = 6 if wrapper == 'Repeat' else 9
    assert runner.model.distill['image'].contrast.student.shape[0] == images
    runner.train()


def test_joined_by_torch():
    """Which cannot be asked for the data of one index."""

    class Listed(list):

        def get_data_info(self, i):
            return dict(img_path=self[i])

    joined = ConcatDataset([Listed('ab'), Listed('ca')])
    assert image_paths(joined) == ['a', 'b', 'c', 'a']


def test_data_that_does_not_say():
    with pytest.raises(UserError, match='does not list its images'):
        image_paths(SimpleNamespace(dataset=[1, 2]))


def test_pipeline_without_the_path(config):
    config.train_dataloader.dataset.pipeline[-1].meta_keys = ('img_shape', )
    with pytest.raises(UserError, match='meta_keys'):
        build_runner(config).train()


def test_two_processes_hold_the_same(config, tmp_path):
    """Banks and queues, of the images of both, before any averaging."""
    config.custom_hooks += [
        dict(type='SyncBuffersHook'),
        dict(type='RankSaver')
    ]
    run_on_two_ranks(config, RANK_SAVER, tmp_path)
    one, other = (torch.load(tmp_path / f'work_dirs/two_ranks/rank{i}.pth')
                  for i in (0, 1))
    for step, (mine, its) in enumerate(zip(one['state'], other['state'])):
        for key in mine:
            assert torch.equal(mine[key], its[key]), (step, key)
    assert len(one['state']) == 7  # six iterations, and after validation
    assert one['drawn'] != other['drawn']
    first, *_, last = one['state']
    before, key = one['before'], 'image.contrast.student'
    changed = (first[key] != before[key]).any(1).nonzero().flatten()
    assert changed.tolist() == sorted({*one['drawn'][0], *other['drawn'][0]})
    assert first['pixel.contrast.written'] == 32
    for form in FORMS:
        assert first[f'{form}.contrast.teacher'].isfinite().all()
        torch.testing.assert_close(
            last[f'{form}.contrast.teacher'],
            one['state'][-2][f'{form}.contrast.teacher'])


RANK_SAVER = '''
import os
import torch
from mmengine.hooks import Hook
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    """Saves the distillation parts of each rank, after each iteration."""

    priority = 'VERY_LOW'

    def before_train(self, runner):
        self.drawn, self.states = [], []
        self.before = self.parts(runner)
        self.crd = [h for h in runner.hooks
                    if getattr(h, 'name', '') == 'image'][0]

    def parts(self, runner):
        return {k: v.clone() for k, v in
                runner.model.module.distill.state_dict().items()}

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.drawn.append(self.crd.term.index.tolist())
        self.states.append(self.parts(runner))

    def after_train(self, runner):
        state = self.states + [self.parts(runner)]
        path = os.path.join(runner.work_dir, f'rank{runner.rank}.pth')
        torch.save(dict(state=state, drawn=self.drawn, before=self.before),
                   path)
'''

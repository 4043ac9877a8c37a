"""Runs that go bad: where they end, and what they leave."""
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import build_runner
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from seg_kd.doctor.replay import read
from seg_kd.engine.loss_guard import LossGuardHook, batch_of, plain_types
from seg_kd.engine.records import BROKEN, latest_checkpoint
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class Spoil(Hook):
    """Makes a weight NaN, behind the back of every loss."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == self.at:
            runner.model.decode_head.conv_seg.bias.data[1] = torch.nan


def test_a_broken_batch_is_replayed_and_the_folder_is_free(
        ka_config, tmp_path):
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.stage = dict(name='distill', number=1, of=1, later=[])
    good = Config(ka_config.to_dict())
    ka_config.optim_wrapper.optimizer.lr = 1e30
    ka_config.work_dir = str(tmp_path / 'work')
    with pytest.raises(UserError, match='iteration 2: not finite') as caught:
        build_runner(ka_config).train()
    path = os.path.join(ka_config.work_dir, BROKEN)
    saved = read(path)
    message = str(caught.value)
    for part in (saved['culprit'], f'doctor --replay {path}',
                 'there is no checkpoint yet',
                 *(info['img_path'] for info in saved['batch']['metainfo'])):
        assert part in message
    assert '\n' not in message
    assert saved['stage'] == 'distill' and saved['iteration'] == 2
    batch = saved['batch']
    assert [x.shape for x in batch['inputs']] == [(3, 64, 96)] * 2
    assert [x.shape for x in batch['labels']] == [(64, 96)] * 2

    again = Config.fromstring(saved['config'], '.py')
    again.work_dir = str(tmp_path / 'again')
    runner = build_runner(again)
    assert all(v.isfinite().all()
               for v in saved['model'].values())  # of before the update
    runner.model.load_state_dict(saved['model'])
    runner.student_hook.before_train(runner)
    runner.model.train()
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=x[None]))
        for x in batch['labels']
    ]
    data = runner.model.data_preprocessor(
        dict(inputs=batch['inputs'], data_samples=samples), True)
    losses = runner.model(**data, mode='loss')
    assert not losses[saved['culprit']].isfinite()

    run_stages(good, ka_config.work_dir)  # what is there is no checkpoint
    assert latest_checkpoint(ka_config.work_dir)


def test_bad_weights_reach_no_checkpoint(plain_config):
    plain_config.default_hooks.checkpoint.interval = 1
    plain_config.default_hooks.loss_guard = dict(type='LossGuardHook',
                                                 factor=None)
    plain_config.custom_hooks = [dict(type='Spoil', at=1)]
    runner = build_runner(plain_config)
    assert sum(isinstance(h, LossGuardHook) for h in runner.hooks) == 1
    with pytest.raises(UserError,
                       match='iteration 2: .* decode_head.conv_seg.bias'
                       '.* good checkpoint is .*iter_1.pth'):
        runner.train()
    saved = torch.load(os.path.join(runner.work_dir, BROKEN),
                       weights_only=True)
    assert saved['stage'] is None and saved['culprit'] == 'loss'
    assert all(v.isfinite().all() for v in saved['model'].values())
    last = latest_checkpoint(runner.work_dir)
    state = torch.load(last, weights_only=False)['state_dict']
    assert all(v.isfinite().all() for v in state.values())


def stopped_at(values, **settings):
    """The iteration, from 1, at which a run with these sums is stopped."""
    hook = LossGuardHook(patience=10, window=100, **settings)
    hub = MessageHub('guarded')
    runner = SimpleNamespace(message_hub=hub, iter=0)
    stops = []
    hook._stop = lambda runner, what, culprit, *_: stops.append(
        (runner.iter + 1, culprit))
    for runner.iter, value in enumerate(values):
        outputs = {'loss': value, 'decode.loss_ce': 1., 'loss_ka': value - 1}
        hub.update_scalar('train/loss', value)
        hook.after_train_iter(runner, 0, None, outputs)
    return stops[0] if stops else None


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_named_at_once(bad):
    assert stopped_at([2., bad, 2.]) == (2, 'loss_ka')


def test_an_exploding_loss_is_named():
    values = [2.] * 25 + [5e4] * 40
    assert stopped_at(values) == (40, 'loss_ka')
    assert stopped_at(values, factor=1e5) is None
    assert stopped_at(values, factor=None) is None


@pytest.mark.parametrize(
    'values', [
        [0.] * 95 + [3.] * 95,
        [10.**-k for k in range(9)] * 20,
        np.linspace(1e-4, 1, 1000),
        ([1.] * 95 + [1e9] * 8) * 5,
        [5.] * 5 + [1e9] * 100,
        1 + 1e3 * np.sin(np.arange(1000)),
    ],
    ids=['late start', 'wild', 'warmup', 'spikes', 'too early', 'signs'])
def test_healthy_losses_pass(values):
    assert stopped_at(list(map(float, values))) is None


def test_a_batch_in_plain_types(tmp_path):
    bare = SegDataSample(metainfo=dict(img_path='a.png',
                                       scale=np.float32(.5),
                                       moves=(np.int64(3), [np.arange(2)]),
                                       other=object))
    found = batch_of(dict(inputs=torch.zeros(1, 3, 2, 4), data_samples=[bare]),
                     7)
    assert found['labels'][0].tolist() == [[7] * 4] * 2
    info = found['metainfo'][0]
    assert info['moves'] == (3, [[0, 1]]) and info['scale'] == .5
    torch.save(found, tmp_path / 'batch.pth')
    torch.load(tmp_path / 'batch.pth', weights_only=True)
    assert plain_types({1: None}) == {'1': None}

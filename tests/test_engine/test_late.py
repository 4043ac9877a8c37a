"""The log's values and the guard, read late as from a GPU."""
import copy
import pickle

import pytest
import torch
from conftest import build_runner
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub

from seg_kd.engine import late, loss_guard
from seg_kd.engine.late import LateHistory, LateInfoHook, note
from seg_kd.engine.records import BROKEN, latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.networks import transfer


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Tensors of the CPU are taken for those of a GPU."""

    def start():
        for module in (transfer, late, loss_guard):
            monkeypatch.setattr(module, 'on_gpu', torch.is_tensor)

    return start


@pytest.fixture
def hub():
    MessageHub._instance_dict.clear()
    return MessageHub.get_instance('late')


def test_a_history_is_whole_whenever_it_is_read(hub, as_on_a_gpu):
    hub.update_scalar('train/a', 7)  # of before
    as_on_a_gpu()
    for i in range(5):
        note(hub, {'train/a': torch.tensor(i / 4), 'train/b': i})
        if i == 2:
            assert hub.get_scalar('train/a').mean(2) == (.25 + .5) / 2
    hub.update_scalar('train/a', 9.)  # by somebody's own hook
    note(hub, {'train/a': torch.tensor(3.)})
    values, counts = hub.log_scalars['train/a'].data
    assert values.tolist() == [7, 0, .25, .5, .75, 1, 9, 3]
    assert counts.tolist() == [1] * 8 and counts.dtype == int
    assert type(hub.log_scalars['train/b']) is HistoryBuffer
    assert hub.log_scalars['train/a'].current() == 3
    note(hub, {'train/a': torch.tensor(4.)})
    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        found = copied(hub.log_scalars['train/a'])
        assert type(found) is HistoryBuffer and found.max() == 9
        assert len(found.data[0]) == 9


def test_few_values_wait(hub, as_on_a_gpu, monkeypatch):
    monkeypatch.setattr(late, 'LONGEST', 3)
    as_on_a_gpu()
    for i in range(8):
        note(hub, dict(a=torch.tensor(float(i))))
    assert len(hub.log_scalars['a']._late) <= 3
    short = LateHistory([1., 2.], [1, 1], 4)
    for i in range(3, 6):
        short.add(transfer.Fetched(dict(a=torch.tensor(float(i)))), 'a')
    assert short.data[0].tolist() == [2, 3, 4, 5]


def logged(config, folder):
    config.work_dir = str(folder)
    runner = build_runner(config)
    kinds = [type(h) for h in runner.hooks if isinstance(h, RuntimeInfoHook)]
    assert kinds == [LateInfoHook]
    runner.train()
    return runner, {
        name: history.data[0].tolist()
        for name, history in runner.message_hub.log_scalars.items()
        if not name.endswith(('time', 'data_share'))
    }


def test_a_run_logs_the_same(ka_config, tmp_path, as_on_a_gpu):
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.optim_wrapper.clip_grad = dict(max_norm=1.)
    _, wanted = logged(copy.deepcopy(ka_config), tmp_path / 'a')
    assert len(wanted['train/grad_norm']) == 6
    as_on_a_gpu()
    runner, found = logged(ka_config, tmp_path / 'b')
    assert found == wanted and list(found) == list(wanted)
    assert isinstance(runner.message_hub.log_scalars['train/loss'],
                      LateHistory)
    saved = torch.load(latest_checkpoint(runner.work_dir), weights_only=False)
    history = saved['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer and len(history.data[0]) == 6


@pytest.mark.parametrize('last', [6, 2])
def test_a_bad_loss_is_found_before_a_checkpoint(plain_config, tmp_path,
                                                 as_on_a_gpu, last):
    plain_config.optim_wrapper.optimizer.lr = 1e30
    plain_config.train_cfg.max_iters = last
    plain_config.default_hooks.checkpoint.interval = 2
    saved, said = [], []
    for folder in ('at once', 'late'):
        config = copy.deepcopy(plain_config)
        config.work_dir = str(tmp_path / folder)
        with pytest.raises(UserError, match='iteration 2: not finite: dec') \
                as caught:
            build_runner(config).train()
        said.append(str(caught.value).replace(folder, ''))
        saved.append(torch.load(tmp_path / folder / BROKEN, weights_only=True))
        assert latest_checkpoint(config.work_dir) is None
        as_on_a_gpu()
    assert said[0] == said[1]
    one, other = (found['batch']['inputs'] for found in saved)
    assert all(map(torch.equal, one, other))
    for name, value in saved[0]['model'].items():
        assert torch.equal(value, saved[1]['model'][name])
    assert saved[0]['iteration'] == saved[1]['iteration'] == 2


def test_an_iteration_later_is_soon_enough(plain_config, as_on_a_gpu):
    plain_config.optim_wrapper.optimizer.lr = 1e30
    plain_config.default_hooks.checkpoint.interval = 100
    as_on_a_gpu()
    runner = build_runner(plain_config)
    with pytest.raises(UserError, match='iteration 2: not finite: dec'):
        runner.train()
    assert runner.iter == 2  # the third, counted from 0, was enqueued
    saved = torch.load(f'{runner.work_dir}/{BROKEN}', weights_only=True)
    assert saved['iteration'] == 2
    assert all(v.isfinite().all() for v in saved['model'].values())

"""Killed anywhere and resumed, a training ends as if nothing had been.

``make faults`` kills as often as ``FAULTS`` says, and ``make test`` a few
times.
"""
import errno
import os
import random
import signal

import pytest
from conftest import TAPS, watch
from harness import Kill, differences, events_of, outcome, train
from mmengine.config import Config

from seg_kd.engine.records import latest_checkpoint

KILLS = int(os.environ.get('FAULTS', 0))
HOWS = (signal.SIGKILL, ) * 4 + (signal.SIGTERM, signal.SIGINT)
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = [dict(type='PackSegInputs')]


def ka(config: Config) -> Config:
    """Both stages, with validations and all that is kept of them."""
    return watch(config)


def small(config: Config) -> Config:
    """The second stage alone, and nothing beside it."""
    config.pop('stages')
    config.custom_hooks[1].translator = None
    config.train_cfg.update(max_iters=3, val_interval=2)
    config.default_hooks.checkpoint.interval = 1
    return config


def banks(config: Config) -> Config:
    """Memory banks, an average of the weights, gradients summed up."""
    config = small(config)
    config.train_cfg.max_iters = 6
    config.default_hooks.checkpoint.update(interval=2, save_best='mIoU')
    config.optim_wrapper.accumulative_counts = 2
    forms = dict(image=dict(instances='image', k=32),
                 pixel=dict(max_instances=40, queue=60, enqueue=16))
    config.custom_hooks = [
        config.custom_hooks[0],
        *(dict(type='CRDHook', name=n, **TAPS, **f) for n, f in forms.items()),
        dict(type='EMAHook', momentum=.1)
    ]
    return config


def cache(config: Config) -> Config:
    """A cache of the teacher's maps, that is being filled; a worker."""
    config = small(config)
    config.train_dataloader.dataset.pipeline = [*LOAD, *PACK]
    config.custom_hooks[0].update(cache=True)
    config.train_dataloader.num_workers = 1
    return config


def pair(config: Config) -> Config:
    """Two processes."""
    return small(config)


SCENES = ka, banks, cache, pair
RANKS = dict(pair=2)


@pytest.fixture
def scene(request, ka_config):
    """The config, its number of processes, and what an unbroken run gives."""
    config = request.param(ka_config)
    config.pop('work_dir')
    return config, RANKS.get(request.param.__name__, 1)


def unbroken(config, ranks, folder):
    ends = train(config, folder, ranks=ranks)
    assert [end.status for end in ends] == [0] * ranks, ends[0].said
    return outcome(folder), [len(events_of(folder, r)) for r in range(ranks)]


def check(config, ranks, folder, kill, whole):
    """Kills one training, lets it go on, and compares."""
    ends = train(config, folder, kill=kill, ranks=ranks)
    status = ends[kill.rank].status
    said = ''.join(end.said for end in ends)
    assert status in {
        signal.SIGKILL: (-signal.SIGKILL, ),
        signal.SIGTERM: (143, ),
        signal.SIGINT: (2, ),
        -errno.ENOSPC: (2, )
    }[kill.how], (kill, said)
    assert not any(end.orphans for end in ends), (kill, said)
    for end in ends:
        others = {-signal.SIGKILL: 2, 143: 143}.get(status, 2)
        assert end is ends[kill.rank] or end.status == others, (kill, said)
        assert abs(end.seconds - ends[kill.rank].seconds) < 30, (kill, said)
    assert 'Traceback' not in ends[kill.rank].said, (kill, said)
    again = train(config, folder, resume=True, ranks=ranks)
    assert [end.status for end in again] == [0] * ranks, (kill, again)
    assert differences(outcome(folder), whole) == [], kill
    return ends


@pytest.mark.parametrize('scene', [small], indirect=True)
def test_a_few_kills_of_one_training(scene, tmp_path):
    """Half of a checkpoint is written, SIGTERM, a full disk, and a kill in
    the last validation: 1 + 3 + 2 + 1 iterations are done."""
    whole, _ = unbroken(*scene, tmp_path / 'whole')
    config, _ = scene
    folder = tmp_path / 'run'
    for kill, status, left in [
        (Kill('put iter_2.pth.part'), -signal.SIGKILL, 1),
        (Kill('train iteration', signal.SIGTERM), 143, 2),
        (Kill('put iter_3.pth.part', -errno.ENOSPC), 2, 2),
        (Kill('validation iteration'), -signal.SIGKILL, 3),
    ]:
        end, = train(config,
                     folder,
                     resume=left > 1 or status == 143,
                     kill=kill)
        assert end.status == status, end.said
        assert 'Traceback' not in end.said
        last = latest_checkpoint(str(folder))
        assert last == str(folder / f'iter_{left}.pth')
        if status == 143:
            assert 'SIGTERM: ended at iteration 2 of 3' in end.said
        if status == 2:
            line, = (x for x in end.said.splitlines() if 'error: ' in x)
            assert 'no space is left' in line and 'MiB in' in line
            assert not list(folder.glob('*.part'))
    end, = train(config, folder, resume=True)
    assert end.status == 0, end.said
    assert 'iteration 3 was cut off, it is made up for' in end.said
    assert differences(outcome(folder), whole) == []


@pytest.mark.filterwarnings("ignore:Detected call of `scheduler.step")
@pytest.mark.skipif(not KILLS, reason='make faults')
@pytest.mark.parametrize('scene', SCENES, indirect=True)
def test_many_kills(scene, tmp_path, request):
    """At each event if there are so many kills, else at some by chance."""
    config, ranks = scene
    whole, counts = unbroken(config, ranks, tmp_path / 'whole/run')
    chance = random.Random(KILLS)
    kills = [
        Kill(number, chance.choice(HOWS), after, rank)
        for rank, count in enumerate(counts) for number in range(count)
        for after in (False, True)
    ]
    writes = 'put', 'open', 'replace', 'link'
    kills += [
        Kill(number, -errno.ENOSPC)
        for number, what in enumerate(events_of(tmp_path / 'whole/run'))
        if what.split()[0] in writes
    ]
    chosen = chance.sample(kills, min(len(kills), -(-KILLS // len(SCENES))))
    for i, kill in enumerate(chosen):
        # in a place of its own, where no cache is filled yet
        ends = check(config, ranks, tmp_path / f'{i}/run', kill, whole)
        if ranks > 1 and kill.how == signal.SIGKILL:
            other = ends[1 - kill.rank]
            assert f'rank {kill.rank} (process' in other.said, other.said
    print(f'{request.node.callspec.id}: {len(chosen)} of {len(kills)} places, '
          'none lost')

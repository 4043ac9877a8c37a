"""Killed anywhere and resumed, a training ends as if nothing had been.

``make faults`` kills as often as ``FAULTS`` says, and ``make test`` a few
times.
"""
import errno
import os
import random
import re
import shutil
import signal

import pytest
from conftest import TAPS, watch
from harness import ALL, Kill, differences, events_of, outcome, train
from mmengine.config import Config

from seg_kd.engine.records import latest_checkpoint, read_record

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
    """The outcome; of each rank its events, and how long it took."""
    ends = train(config, folder, ranks=ranks)
    assert [end.status for end in ends] == [0] * ranks, ends[0].said
    events = [events_of(folder, rank) for rank in range(ranks)]
    return outcome(folder), events, ends[0].seconds


def places(events, chance):
    """Each event of each rank, before and after, with a signal."""
    return [
        Kill(number, chance.choice(HOWS), after, rank)
        for rank, seen in enumerate(events) for number in range(len(seen))
        for after in (False, True)
    ]


def kind(what):
    """An event's, without the number of an iteration."""
    return re.sub(r'\d+', 'N', what)


def place(kill, events):
    """What a kill is at, of which event of how many."""
    if kill.number is None:
        return 'any moment'
    return f'{events[max(0, kill.rank)][kill.number]!r} of {len(events[0])}'


def choose(events, seconds, count, chance):
    """Kills: one at each kind of event, between stages, by the clock, by
    chance; to one rank or to all; and full disks."""
    every = places(events, chance)
    chance.shuffle(every)
    kinds = {}
    for kill in every:
        kinds.setdefault((kill.rank, kind(events[kill.rank][kill.number])),
                         kill)
    chosen = list(kinds.values())
    ends = [n for n, what in enumerate(events[0]) if 'run.json.copy' in what]
    chosen += [Kill(n, how, True) for n in ends for how in set(HOWS)]
    chosen += [
        Kill(how=how,
             rank=chance.choice([ALL, *range(len(events))]),
             seconds=chance.uniform(.02, seconds)) for how in HOWS
    ]
    if events[1:]:
        number = events[0].index('train iteration')
        chosen += [Kill(number, how, rank=ALL) for how in set(HOWS)]
    left = [kill for kill in every if kill not in chosen]
    chosen += left[:max(0, count - len(chosen))]
    writes = [
        Kill(number, -errno.ENOSPC) for number, what in enumerate(events[0])
        if what.split()[0] in ('put', 'open', 'replace', 'link')
    ]
    return chosen, chance.sample(writes, min(len(writes), count // 5))


def check(config, ranks, folder, kill, whole):
    """Kills one training, lets it go on, and compares."""
    ends = train(config, folder, kill=kill, ranks=ranks)
    statuses = [end.status for end in ends]
    said = '\n'.join(end.said[-2000:] for end in ends)
    allowed = {
        signal.SIGKILL: [-signal.SIGKILL],
        signal.SIGTERM: [143],
        signal.SIGINT: [2],
        -errno.ENOSPC: [2]
    }[kill.how]
    if kill.how != signal.SIGKILL and finished(folder):
        allowed.append(0)  # in the last moment
    if kill.seconds is not None:  # or before anything has begun
        allowed += [0, -kill.how]
    if kill.rank == ALL:  # or that of another was seen first
        allowed.append(2)
    assert statuses[kill.rank] in allowed, (statuses, said)
    others = [143, 2] if statuses[kill.rank] == 143 else [2]
    if kill.seconds is not None or kill.rank == ALL or finished(folder):
        others += [*allowed, 0]
    assert set(statuses) <= {*others, statuses[kill.rank]}, (statuses, said)
    assert not any(end.orphans for end in ends), (statuses, said)
    seconds = [end.seconds for end in ends]
    assert max(seconds) - min(seconds) < 30, (seconds, said)
    assert 'Traceback' not in ends[kill.rank].said, ends[kill.rank].said
    alone = kill.seconds is None and kill.rank != ALL and ranks > 1
    if alone and statuses[kill.rank] == -signal.SIGKILL and \
            statuses[1 - kill.rank] == 2:
        assert f'rank {kill.rank} (process' in ends[1 - kill.rank].said, said
    again = train(config, folder, resume=True, ranks=ranks)
    assert [end.status for end in again] == [0] * ranks, again[0].said
    assert differences(outcome(folder), whole) == []


def finished(folder):
    """Whether the last stage has come to its end."""
    records = [read_record(str(f)) for f in (folder, folder / 'distill')]
    return any(record and record['finished'] for record in records)


@pytest.mark.parametrize('scene', [small], indirect=True)
def test_a_few_kills_of_one_training(scene, tmp_path):
    """Half of a checkpoint is written, SIGTERM, a full disk, and a kill in
    the last validation: 1 + 3 + 2 + 1 iterations are done."""
    whole, *_ = unbroken(*scene, tmp_path / 'whole')
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
    """At each kind of event, and at some more by chance."""
    config, ranks = scene
    whole, events, seconds = unbroken(config, ranks, tmp_path / 'whole/run')
    chance = random.Random(KILLS)
    kills, full = choose(events, seconds, -(-KILLS // len(SCENES)), chance)
    lost = []
    for i, kill in enumerate([*kills, *full]):
        # in a place of its own, where no cache is filled yet
        folder = tmp_path / f'{i}/run'
        try:
            check(config, ranks, folder, kill, whole)
        except AssertionError as error:
            lost.append(f'{kill} at {place(kill, events)}: {error}')
        shutil.rmtree(folder.parent)
    print(f'{request.node.callspec.id}: {len(kills)} kills and {len(full)} '
          f'full disks, at {len(set(map(kind, sum(events, []))))} kinds of '
          f'{len(sum(events, []))} events: {len(lost)} lost')
    assert not lost, '\n\n'.join(lost)

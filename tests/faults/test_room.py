"""No room, no folder, no handles, another training: one line, and no hang."""
import os
import resource
import shutil
import signal
import time

import mmengine.runner.loops as loops
import pytest
from harness import Kill, differences, outcome, train
from test_kills import KILLS, small

pytestmark = pytest.mark.skipif(not KILLS, reason='make faults')


@pytest.fixture
def config(ka_config):
    config = small(ka_config)
    config.pop('work_dir')
    return config


def line(end):
    """Of an error that is said in one."""
    found = [x for x in end.said.splitlines() if 'error: ' in x]
    assert end.status == 2 and len(found) == 1, end.said
    assert 'Traceback' not in end.said, end.said
    return found[0]


def in_the_second_iteration(work):
    """For ``before=``: does some work there."""

    def prepare():
        run_iter = loops.IterBasedTrainLoop.run_iter

        def then(loop, batch):
            if loop.iter == 1:
                work()
            run_iter(loop, batch)

        loops.IterBasedTrainLoop.run_iter = then

    return prepare


def limited(kind, number):
    return lambda: resource.setrlimit(kind, (number, number))


def test_files_may_not_be_that_large(config, tmp_path):
    """As under a quota, or ``ulimit -f``; then they may."""
    folder = tmp_path / 'run'
    end, = train(config,
                 folder,
                 before=in_the_second_iteration(
                     limited(resource.RLIMIT_FSIZE, 100_000)))
    assert 'larger than is allowed' in line(end)
    assert [p.name for p in folder.glob('iter*')] == ['iter_1.pth']
    again, = train(config, folder, resume=True)
    whole, = train(config, tmp_path / 'whole')
    assert again.status == whole.status == 0
    assert differences(outcome(folder), outcome(tmp_path / 'whole')) == []


def test_too_many_open_files(config, tmp_path):
    end, = train(config,
                 tmp_path / 'run',
                 before=limited(resource.RLIMIT_NOFILE,
                                len(os.listdir('/proc/self/fd')) + 2))
    assert 'ulimit -n' in line(end)


def test_the_folder_is_deleted(config, tmp_path):
    folder = tmp_path / 'run'
    end, = train(config,
                 folder,
                 before=in_the_second_iteration(lambda: shutil.rmtree(folder)))
    assert f'{folder}' in line(end) and 'is not there' in line(end)


def test_a_second_training(config, tmp_path):
    """Is refused with and without --resume, and the first goes on."""
    folder, stopped = tmp_path / 'run', tmp_path / 'stopped'

    def wait():
        stopped.touch()
        while stopped.exists():
            time.sleep(.1)

    first = os.fork()
    if first == 0:
        end, = train(config, folder, before=in_the_second_iteration(wait))
        os._exit(end.status)
    while not stopped.exists():
        time.sleep(.1)
    for resume in (False, True):
        os.rename(f'{folder}.0.log', f'{folder}.first.log')
        end, = train(config, folder, resume=resume)
        os.rename(f'{folder}.first.log', f'{folder}.0.log')
        assert 'is in use: process' in line(end) and end.seconds < 10
    stopped.unlink()
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0


def test_ctrl_c_says_where_it_stands(config, tmp_path):
    end, = train(config,
                 tmp_path / 'run',
                 kill=Kill('put iter_2.pth.part', signal.SIGINT))
    assert 'interrupted at iteration 1 of 3' in line(end)
    assert 'run/iter_1.pth' in line(end)


@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_one_rank_alone(config, tmp_path, how, rank):
    """The other ends as well: it names the dead one, or leaves with it."""
    kill = Kill('train iteration', how, rank=rank)
    ends = train(config, tmp_path / 'run', kill=kill, ranks=2)
    assert abs(ends[0].seconds - ends[1].seconds) < 30
    if how == signal.SIGKILL:
        assert ends[rank].status == -how
        assert f'rank {rank} (process' in line(ends[1 - rank])
    else:
        assert [end.status for end in ends] == [143, 143], ends
        said = ends[0].said + ends[1].said
        assert said.count('SIGTERM: ended at iteration 1 of 3') == 1
        assert (tmp_path / 'run/iter_1.pth').exists()

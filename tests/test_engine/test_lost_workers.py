"""Loader workers that die: named, with their image, and nobody waits."""
import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from seg_kd.datasets import SeededDataset
from seg_kd.engine import lost_workers
from seg_kd.errors import UserError


class Images(Dataset):
    """The fourth sample ends its worker, in one way or another."""

    def __init__(self, way):
        self.way = way

    def __len__(self):
        return 8

    def get_data_info(self, index):
        return dict(img_path=f'data/{index}.png')

    def __getitem__(self, index):
        self.get_data_info(index)
        return self.way() if index == 3 else torch.zeros(1)


class Unsent:
    """What no queue takes, as where /dev/shm is full."""

    def __reduce__(self):
        raise RuntimeError('unable to write to file </torch_1_2>: No space '
                           'left on device (28)')


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def left():
    os._exit(3)


def loaded(dataset):
    loader = lost_workers.watched(
        DataLoader(dataset, batch_size=1, num_workers=1, collate_fn=list))
    return lost_workers.reported(lambda: list(loader))


@pytest.mark.parametrize('way, words', [
    (killed, r'killed by signal: Killed.*data/3\.png'),
    (left, r'data/3\.png'),
    (Unsent, r'could not hand over a batch, unable to write .*No space left'),
])
def test_a_worker_that_dies(way, words):
    with pytest.raises(UserError, match=words) as caught:
        loaded(SeededDataset(Images(way)))
    assert 'num_workers' in str(caught.value)


def test_a_signal_that_comes_after_the_broken_connection():

    def ended(signum, frame):
        raise RuntimeError('DataLoader worker (pid 7) is killed by signal: 9')

    def train():
        signal.setitimer(signal.ITIMER_REAL, .1)
        raise ConnectionResetError

    before = signal.signal(signal.SIGALRM, ended)
    try:
        with pytest.raises(UserError, match='worker 7 has ended'):
            lost_workers.reported(train)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize('way, words', [
    (killed, r'killed by signal: Killed.*data/3\.png'),
    (left, r'exit code 3.*data/3\.png'),
])
def test_a_signal_that_is_lost(way, words, monkeypatch):
    """As where its handler interrupts a destructor."""
    monkeypatch.setattr('time.sleep', lambda seconds: None)

    def train():
        batches = iter(loader)
        before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            next(batches), next(batches)
            os.waitid(os.P_PID, batches._workers[0].pid,
                      os.WEXITED | os.WNOWAIT)
        finally:
            signal.signal(signal.SIGCHLD, before)
        raise ConnectionResetError

    loader = lost_workers.watched(
        DataLoader(Images(way), batch_size=1, num_workers=1))
    with pytest.raises(UserError, match=words):
        lost_workers.reported(train)


@pytest.mark.parametrize('error', [RuntimeError('mine'), ConnectionError()])
def test_other_errors_stay_as_they_are(error, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)

    def train():
        raise error

    with pytest.raises(type(error)) as caught:
        lost_workers.reported(train)
    assert caught.value is error
    assert len(loaded(Images(lambda: torch.ones(1)))) == 8

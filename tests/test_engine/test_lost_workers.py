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
    with lost_workers.reported():
        return [batch for batch in loader]


@pytest.mark.parametrize('way, words', [
    (killed, r'killed by signal: Killed.*data/3\.png'),
    (left, r'data/3\.png'),
    (Unsent, r'could not hand over a batch, unable to write .*No space left'),
])
def test_a_worker_that_dies(way, words):
    with pytest.raises(UserError, match=words) as caught:
        loaded(SeededDataset(Images(way)))
    assert 'num_workers' in str(caught.value)


@pytest.mark.parametrize('error', [RuntimeError('mine'), ConnectionError()])
def test_other_errors_stay_as_they_are(error, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    with pytest.raises(type(error)) as caught, lost_workers.reported():
        raise error
    assert caught.value is error
    assert len(loaded(Images(lambda: torch.ones(1)))) == 8

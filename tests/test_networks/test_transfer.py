"""Copies between host and GPU; that none waits is in test_device_step.py."""
import pytest
import torch

from seg_kd.networks import transfer
from seg_kd.networks.transfer import Fetched, sent, stacked


def test_stacked_is_stack():
    maps = list(torch.randint(256, (3, 2, 5, 7)))
    assert torch.equal(stacked(maps, 'cpu'), torch.stack(maps))
    narrow = stacked(maps, torch.device('cpu'), torch.uint8)
    assert narrow.dtype == torch.uint8
    assert torch.equal(narrow.long(), torch.stack(maps))
    assert sent(maps[0], 'cpu') is maps[0]


@pytest.mark.parametrize('far', [False, True])
def test_numbers_come_in_order(far, monkeypatch):
    if far:  # as if those of the CPU were on a GPU
        monkeypatch.setattr(transfer, 'on_gpu', torch.is_tensor)
    given = dict(a=torch.tensor(1 / 3),
                 b=2.5,
                 c=torch.tensor([1 / 3], dtype=torch.double),
                 d=torch.tensor(float('nan')))
    fetched = Fetched(given)
    assert fetched.late == far
    for value in (given['a'], given['c']):
        value.zero_()  # they are on their way already
    assert list(fetched.numbers) == list('abcd')
    found = list(fetched.numbers.values())
    assert found[:3] == [torch.tensor(1 / 3).item(), 2.5, 1 / 3]
    assert found[3] != found[3]
    assert Fetched({}).numbers == {}

"""Costs against closed forms."""
import time

import pytest
import torch
from torch import nn

from seg_kd.analysis.costs import compare, flops, latencies, parameters


def test_costs_of_a_convolution():
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert parameters(conv) == 8 * 3 * 9 + 8
    # 5 x 7 outputs, 8 channels, 27 multiply-adds each
    assert flops(conv, torch.zeros(1, 3, 10, 14)) == 2 * 5 * 7 * 8 * 27


def test_measuring_quality_may_take_a_network_to_another_device(tmp_path):

    def elsewhere(module, args):
        raise RuntimeError('expected all tensors to be on the same device')

    class Trained:

        def __init__(self):
            self.model = nn.Conv2d(3, 8, 3)

        def samples(self, count):
            return [dict(inputs=torch.zeros(3, 10, 14))]

        def metrics(self, folder, name):
            self.model.register_forward_pre_hook(elsewhere)  # as on a GPU
            return dict(mIoU=40., aAcc=90.)

    table = compare(dict(a=Trained(), b=Trained()), str(tmp_path / 'costs'))
    assert table.count('40.00') == 2


def test_latency_is_the_median_in_turn_without_the_warm_up(monkeypatch):
    """On a clock of its own: a shared machine has no order of times."""
    now, calls = [0.], []
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    taken = dict(a=[9., 9., 9., 1., 2., 30.], b=[9., 9., 9., 4., 6., 5.])

    class Slow(nn.Module):

        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, image):
            calls.append(self.name)
            now[0] += taken[self.name].pop(0)

    found = latencies(dict(a=Slow('a'), b=Slow('b')), torch.zeros(1), runs=3)
    assert found == pytest.approx(dict(a=2000., b=5000.))
    assert calls == ['a', 'b'] * 6

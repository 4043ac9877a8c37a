"""Costs against closed forms, and curves out of the logs of several runs."""
import json

import numpy as np
import torch
from torch import nn

from seg_kd.analysis.report import (colours, draw_curves, flops, latencies,
                                    parameters, read_scalars)


def test_costs_of_a_convolution():
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert parameters(conv) == 8 * 3 * 9 + 8
    # 5 x 7 outputs, 8 channels, 27 multiply-adds each
    assert flops(conv, torch.zeros(1, 3, 10, 14)) == 2 * 5 * 7 * 8 * 27


def test_latencies_tell_a_large_network_from_a_small_one():
    small, large = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 256, 7)
    taken = latencies(dict(small=small, large=large),
                      torch.zeros(1, 3, 64, 96),
                      runs=5)
    assert 0 < taken['small'] < taken['large']


def test_ignored_pixels_are_black():
    palette = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    shown = colours(np.array([[1, 255]]), palette)
    assert shown.tolist() == [[[40, 50, 60], [0, 0, 0]]]


def write(folder, name, lines):
    path = folder / name / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_curves_of_a_resumed_run(tmp_path):
    write(tmp_path, '20260101_000000',
          [dict(loss=float(i), step=i) for i in (1, 2, 3, 4)])
    write(tmp_path, '20260101_000100',
          [dict(loss=10. * i, step=i, mIoU=5.) for i in (3, 4, 5)])
    found = read_scalars(str(tmp_path))
    assert found['loss'] == [(1, 1.), (2, 2.), (3, 30.), (4, 40.), (5, 50.)]
    assert found['mIoU'] == [(3, 5.), (4, 5.), (5, 5.)]
    draw_curves(dict(run=str(tmp_path)), str(tmp_path / 'curves.png'))
    assert (tmp_path / 'curves.png').stat().st_size > 5000

"""CKA by its definition, affinity by a loop, layers of real networks."""
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SIZE, student, teacher
from mmengine.registry import init_default_scope

from seg_kd.analysis import similarity
from seg_kd.analysis.similarity import affinity, cka, gram, hsic, rows
from seg_kd.networks.taps import Taps
from seg_kd.registry import MODELS


def naive_hsic(x, y):
    """The mean of the U-statistic's kernel over all 4 different rows."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    terms = [
        k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
        for i, j, q, r in itertools.permutations(range(len(x)), 4)
    ]
    return float(sum(terms) / len(terms))


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(n, c, generator=generator, dtype=torch.double)
        for n, c in ((7, 3), (7, 5), (300, 20), (300, 200))
    ]


def test_hsic_and_cka_by_their_definition(features):
    x, y, *_ = features
    y = y + 3  # means do not matter
    assert hsic(gram(x), gram(y)) == pytest.approx(naive_hsic(x, y))
    expected = naive_hsic(x, y) / (naive_hsic(x, x) * naive_hsic(y, y))**.5
    assert cka([x, y], [y])[:, 0] == pytest.approx([expected, 1.])


def test_cka_is_one_up_to_rotation_and_scale_and_near_zero_for_noise(features):
    *_, x, noise = features
    turn = torch.linalg.qr(torch.randn(20, 20, dtype=torch.double))[0]
    found = cka([x], [5 * x @ turn + 1, noise])
    assert found[0, 0] == pytest.approx(1.)
    assert abs(found[0, 1]) < .05  # the biased one is .4 at so many channels
    assert np.isnan(cka([x], [torch.ones(300, 4).double()])).all()


def test_rows_are_the_means_of_cells():
    map_ = torch.arange(2 * 4 * 6.).view(1, 2, 4, 6)
    found = rows(map_, (2, 3))
    assert found.shape == (6, 2)
    assert found[4].tolist() == [
        map_[0, c, 2:, 2:4].mean().item() for c in (0, 1)
    ]


def test_affinity_by_a_loop():
    map_ = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    points = [(.1, .99), (.5, .5), (1., 0.)]
    found = affinity(map_, points)
    for k, (i, j) in enumerate(((0, 5), (2, 3), (3, 0))):
        for y in range(4):
            for x in range(6):
                cosine = F.cosine_similarity(map_[0, :, i, j],
                                             map_[0, :, y, x],
                                             dim=0)
                assert found[k, y, x] == pytest.approx(cosine.item(), abs=1e-6)


def test_layers_run_in_order_and_can_be_tapped():
    init_default_scope('mmseg')
    image = torch.randn(1, 3, *SIZE)
    for config, first in ((student(), 'backbone.conv1'), (teacher(),
                                                          'backbone.stem')):
        model = MODELS.build(config).eval()
        paths = similarity.layers(model, image)
        assert paths[0] == first and paths[-1] == 'decode_head.conv_seg'
        assert sum('backbone.layer' in path for path in paths) >= 4
        assert not any('bn' in p or 'relu' in p for p in paths)
        taps = Taps(model, paths)
        assert list(taps.shapes(image)) == paths
        few = similarity.layers(model, image, 3)
        assert len(few) == 3 and (few[0], few[-1]) == (paths[0], paths[-1])

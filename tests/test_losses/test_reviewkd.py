"""ReviewKDLoss and HCLLoss: the authors' numbers, loops, masks, shapes."""
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from seg_kd.losses import HCLLoss, ReviewKDLoss

from .reference import golden, numbers

SIZES = dict(squares=([(9, 9), (5, 5), (3, 3)], [(9, 9), (9, 9), (5, 5)]),
             oblong=([(12, 20), (6, 10), (3, 5)], ) * 2)


def maps(seed, channels, sizes):
    return [
        numbers(seed + i, 2, c, *size).requires_grad_()
        for i, (c, size) in enumerate(zip(channels, sizes))
    ]


def with_golden_weights() -> ReviewKDLoss:
    loss = ReviewKDLoss([3, 4, 5], [4, 6, 7]).double()
    with torch.no_grad():
        for k, level in enumerate(loss.levels):
            parts = [level.reduce, level.expand, level.attention]
            parameters = [
                p for part in parts if part is not None
                for p in part.parameters()
            ]
            for i, parameter in enumerate(parameters):
                parameter.copy_(numbers(100 + 10 * k + i, *parameter.shape))
    return loss


@pytest.mark.parametrize('kind', SIZES)
def test_golden(kind):
    expected, loss = golden('reviewkd')[kind], with_golden_weights()
    small, large = SIZES[kind]
    student, teacher = maps(0, [3, 4, 5], small), maps(10, [4, 6, 7], large)
    value = loss(student, teacher)
    weight = loss.levels[0].attention.weight
    *found, attention = torch.autograd.grad(value, [*student, weight])
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    for got, want in zip(found, expected['student']):
        torch.testing.assert_close(got[0, 0, 1], got.new_tensor(want))
    want = attention.new_tensor(expected['attention'])
    torch.testing.assert_close(attention[0].flatten(), want)


@pytest.mark.parametrize('size', [(9, 13), (4, 7), (2, 3), (1, 1)])
def test_golden_hcl(size):
    expected = golden('reviewkd')['hcl']['{}x{}'.format(*size)]
    student, = maps(0, [3], [size])
    value = HCLLoss()(student, numbers(10, 2, 3, *size))
    gradient, = torch.autograd.grad(value, student)
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    torch.testing.assert_close(gradient[1, 2, 0],
                               gradient.new_tensor(expected['student']))


def naive_hcl(student, teacher, mask, grids=(4, 2, 1)):
    """Cell by cell, the mean of valid positions, weighted by their share."""
    n, c, h, w = student.shape
    terms = [
        ((student - teacher) * mask[:, None]).square().sum() / (mask.sum() * c)
    ]
    for g in grids:
        total, shares = 0., 0.
        for i, y, x in torch.cartesian_prod(
                *map(torch.arange, (n, g, g))).tolist():
            rows = slice(y * h // g, -(-(y + 1) * h // g))
            columns = slice(x * w // g, -(-(x + 1) * w // g))
            keep = mask[i, rows, columns]
            if keep.any():
                s, t = (m[i, :, rows, columns][:, keep].mean(1)
                        for m in (student, teacher))
                total += keep.double().mean() * (s - t).square().sum()
                shares += keep.double().mean() * c
        terms.append(total / shares)
    weights = [2.**-k for k in range(len(terms))]
    return sum(a * b for a, b in zip(weights, terms)) / sum(weights)


def test_mask_against_loops():
    student, teacher = numbers(0, 2, 3, 7, 10), numbers(1, 2, 3, 7, 10)
    mask = numbers(2, 2, 7, 10) > 0
    mask[0, :4, :6] = False  # whole cells of an image
    value = HCLLoss()(student.requires_grad_(), teacher, mask)
    torch.testing.assert_close(value, naive_hcl(student, teacher, mask))
    gradient, = torch.autograd.grad(value, student)
    want, = torch.autograd.grad(naive_hcl(student, teacher, mask), student)
    torch.testing.assert_close(gradient, want)


def test_cells_are_adaptive_pooling():
    mask = torch.ones(2, 7, 10, dtype=torch.bool)
    gap = numbers(0, 2, 3, 7, 10)
    pooled = [adaptive_avg_pool2d(gap, g).square().mean() for g in (4, 2, 1)]
    want = (gap.square().mean() + pooled[0] / 2 + pooled[1] / 4 +
            pooled[2] / 8) / 1.875
    torch.testing.assert_close(HCLLoss()(gap, torch.zeros_like(gap), mask),
                               want)


def test_only_grids_below_the_shorter_side():
    student, teacher = numbers(0, 1, 2, 9, 3), numbers(1, 1, 2, 9, 3)
    value = HCLLoss()(student, teacher)
    torch.testing.assert_close(value, HCLLoss((2, 1))(student, teacher))
    torch.testing.assert_close(value, HCLLoss()(student.mT, teacher.mT))


def test_levels_add_up():
    sizes = [(6, 9), (3, 5), (1, 4)]  # each has other grids
    student, teacher = (maps(seed, [2, 3, 4], sizes) for seed in (0, 5))
    mask, loss = numbers(9, 2, 6, 20) > -.5, HCLLoss()
    each = sum(loss(s, t, mask) for s, t in zip(student, teacher))
    value = loss(student, teacher, mask)
    torch.testing.assert_close(value, each)
    torch.testing.assert_close(torch.autograd.grad(3 * value, student),
                               torch.autograd.grad(3 * each, student))


def test_deep_levels_reach_shallow_ones():
    loss = ReviewKDLoss([3, 4], [4, 6]).double().eval()
    student = maps(0, [3, 4], [(6, 9), (3, 5)])
    _, left = loss.levels[1](student[1], None, (3, 5))
    output, _ = loss.levels[0](student[0], left, (12, 18))
    gradient, = torch.autograd.grad(output.sum(), student[1])
    assert output.shape == (2, 4, 12, 18) and gradient.any()


@pytest.mark.parametrize('deepest, want', [(96, 96), (2048, 512)])
def test_middle_width_is_the_authors(deepest, want):
    loss = ReviewKDLoss([8, deepest], [4, 4])
    assert loss.levels[0].reduce[0].out_channels == want


def test_one_image_one_level():
    loss = ReviewKDLoss([3], [4])
    student = torch.randn(1, 3, 5, 7, requires_grad=True)
    loss([student], [torch.randn(1, 4, 9, 13)]).backward()
    assert student.grad.isfinite().all() and student.grad.any()


def test_wrong_input():
    with pytest.raises(ValueError, match='as many levels'):
        ReviewKDLoss([3, 4], [4])
    with pytest.raises(ValueError, match='at least 1'):
        HCLLoss((4, 0))
    loss = ReviewKDLoss([3], [4])
    one, two = torch.randn(1, 3, 1, 1), torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match='2 maps of the student'):
        loss([one, one], [two])
    with pytest.raises(ValueError, match='student has 4 channels, not 3'):
        loss([two], [two])
    with pytest.raises(ValueError, match='single 1x1 map'):
        loss([one], [two])
    with pytest.raises(ValueError, match='put an adapter between'):
        HCLLoss()(one, two)
    with pytest.raises(ValueError, match='2 maps of the student'):
        HCLLoss()([one, one], [one])


def test_any_memory_format():
    student, teacher = numbers(0, 2, 4, 6, 9), numbers(1, 2, 4, 6, 9)
    last = [
        x.to(memory_format=torch.channels_last) for x in (student, teacher)
    ]
    torch.testing.assert_close(HCLLoss()(*last), HCLLoss()(student, teacher))

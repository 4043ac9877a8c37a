"""HNDLoss: the authors' value, the mean by loops, precision, mistakes."""
import pytest
import torch

from seg_kd.losses import HNDLoss

from .reference import columns, golden, numbers

PAIR = numbers(0, 2, 5, 4, 7), numbers(1, 2, 5, 4, 7)


def test_golden():
    expected = golden('hnd')
    student = PAIR[0].clone().requires_grad_()
    value = HNDLoss('sum')(student, PAIR[1])
    gradient, = torch.autograd.grad(value, student)
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    torch.testing.assert_close(gradient[0, :, 1],
                               torch.tensor(expected['gradient'],
                                            dtype=torch.double),
                               rtol=1e-12,
                               atol=1e-12)


def test_masked_mean_by_loops():
    mask = numbers(2, 2, 4, 7) > 0
    errors = []
    for n in range(2):
        for s, t in zip(*(columns(x[n], mask[n]) for x in PAIR)):
            errors += [(a - b)**2 for a, b in zip(s.tolist(), t.tolist())]
    assert HNDLoss()(*PAIR,
                     mask).item() == pytest.approx(sum(errors) / len(errors))
    assert HNDLoss('sum')(*PAIR, mask).item() == pytest.approx(sum(errors))


def test_the_forms_differ_by_the_number_of_activations():
    assert HNDLoss('sum')(*PAIR).item() == pytest.approx(
        PAIR[0].numel() * HNDLoss()(*PAIR).item())


def test_float32_is_enough_for_large_maps():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 32, 128, 130)
    exact = HNDLoss()(student.double(), teacher.double())
    assert HNDLoss()(student, teacher).item() == pytest.approx(exact.item(),
                                                               rel=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="'mean' or 'sum', not 'batchmean'"):
        HNDLoss('batchmean')
    with pytest.raises(ValueError, match='student has 4 channels, not 5'):
        HNDLoss()(PAIR[0][:, :4], PAIR[1])
    with pytest.raises(ValueError, match='teacher must be a map'):
        HNDLoss()(PAIR[0], PAIR[1][0])
    assert repr(HNDLoss('sum')) == "HNDLoss(reduction='sum')"

"""CWDLoss: value by loops, masks, channels."""
import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import CWDLoss

from .reference import numbers


def by_loops(student, teacher, mask, tau):
    """Plain softmax and sums, an image and a channel at a time."""
    terms = []
    for n in range(len(student)):
        keep = mask[n].flatten()
        if not keep.any():
            continue
        for s, t in zip(student[n].flatten(1), teacher[n].flatten(1)):
            p = (t[keep] / tau).softmax(0)
            q = (s[keep] / tau).softmax(0)
            terms.append(tau**2 * (p * (p.log() - q.log())).sum())
    return sum(terms) / len(terms)


def test_value_as_torchs_own_divergence():
    student, teacher = numbers(0, 2, 5, 4, 7), numbers(1, 2, 5, 4, 7)
    expected = F.kl_div((student / 4).flatten(2).log_softmax(2),
                        (teacher / 4).flatten(2).softmax(2),
                        reduction='sum') * 16 / (2 * 5)
    torch.testing.assert_close(CWDLoss(5, 5)(student, teacher), expected)


@pytest.mark.parametrize('tau', [1., 4.])
def test_masked_value_by_loops(tau):
    student, teacher = numbers(0, 3, 5, 4, 7), numbers(1, 3, 5, 4, 7)
    mask = numbers(5, 3, 4, 7) > 0
    mask[1] = False  # an image that does not count
    value = CWDLoss(5, 5, tau)(student, teacher, mask)
    torch.testing.assert_close(value, by_loops(student, teacher, mask, tau))


def test_other_channels_pass_a_trained_convolution():
    loss = CWDLoss(3, 5).double()
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    connected = torch.einsum('tc,nchw->nthw', loss.connector.weight[..., 0, 0],
                             student)
    torch.testing.assert_close(loss(student, teacher),
                               CWDLoss(5, 5)(connected, teacher))
    assert not list(CWDLoss(5, 5).parameters())


def test_a_shift_of_a_channel_does_not_count():
    student, teacher = numbers(0, 2, 5, 4, 7), numbers(1, 2, 5, 4, 7)
    shift = numbers(2, 1, 5, 1, 1)
    torch.testing.assert_close(
        CWDLoss(5, 5)(student + shift, teacher),
        CWDLoss(5, 5)(student, teacher))


def test_what_is_not_labelled_may_be_anything():
    loss = CWDLoss(3, 5).double()
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    mask[0, 1] = False
    expected = loss(student, teacher, mask)
    student[0, :, 1] = torch.nan
    teacher[0, :, 1] = torch.inf
    student.requires_grad_()
    value = loss(student, teacher, mask)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert not student.grad[0, :, 1].any() and student.grad.isfinite().all()
    assert loss.connector.weight.grad.isfinite().all()


def test_refused():
    with pytest.raises(ValueError, match='temperature'):
        CWDLoss(3, 3, 0.)
    with pytest.raises(ValueError, match='student has 4 channels, not 3'):
        CWDLoss(3, 5)(numbers(0, 1, 4, 2, 3), numbers(1, 1, 5, 2, 3))

"""SRDLoss: the authors' two codes, the options, the correlation."""
import math

import pytest
import torch
from torch import nn

from seg_kd.losses import SRDLoss
from seg_kd.losses.srd import mean_correlation, standardize

from .reference import golden, numbers


def with_golden_weights(**kwargs) -> SRDLoss:
    loss = SRDLoss(3, 5, **kwargs).double()
    with torch.no_grad():
        loss.projector.weight.copy_(numbers(2, 5, 3)[..., None, None])
    return loss


@pytest.mark.parametrize('code, options', [
    ('imagenet', dict(eps=1e-4, floor=0.)),
    ('deit', dict(eps=0., floor=1e-5, correlate=True)),
])
def test_golden(code, options):
    expected = golden('srd')[code]
    loss = with_golden_weights(form='paper', **options)
    student = numbers(0, 8, 3)[..., None, None].requires_grad_()
    value = loss(student, numbers(1, 8, 5)[..., None, None])
    gradients = torch.autograd.grad(value, [student, loss.projector.weight])
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    for found, key in zip(gradients, ('student', 'weight')):
        assert torch.allclose(found[..., 0, 0],
                              found.new_tensor(expected[key]),
                              rtol=1e-9,
                              atol=1e-12)


def test_the_papers_vectors_are_means_of_images():
    loss = with_golden_weights(form='paper')
    student, teacher = numbers(0, 8, 3, 4, 6), numbers(1, 8, 5, 8, 12)
    mask = torch.ones(8, 16, 24, dtype=torch.bool)
    mask[:, 8:] = False
    value = loss(student, teacher, mask)
    vectors = student[:, :, :2], teacher[:, :, :4]
    torch.testing.assert_close(
        value, loss(*(x.mean((2, 3), keepdim=True) for x in vectors)))


def test_dense_is_the_paper_less_the_log_of_the_count():
    """Where positions are as many images of a vector."""
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    rows = [
        x.permute(0, 2, 3, 1).reshape(-1, x.shape[1], 1, 1)
        for x in (student, teacher)
    ]
    dense = with_golden_weights(floor=0.)(student, teacher)
    paper = with_golden_weights(form='paper', floor=0.)(*rows)
    torch.testing.assert_close(dense, paper - math.log(2 * 28 * 5))


@pytest.mark.parametrize('norm', ['batch', 'l2', 'none'])
@pytest.mark.parametrize('alpha, log, correlate', [
    (4., True, False),
    (4., True, True),
    (3., True, False),
    (2., False, False),
    (1., False, False),
    (1., False, True),
])
def test_options_by_plain_torch(norm, alpha, log, correlate):
    loss = SRDLoss(3,
                   5,
                   projector='mlp',
                   norm=norm,
                   alpha=alpha,
                   log=log,
                   correlate=correlate).double()
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    mask = numbers(3, 2, 4, 7) > 0
    student.requires_grad_()
    value = loss(student, teacher, mask)
    s, t = (x.permute(0, 2, 3, 1)[mask]
            for x in (loss.projector(student), teacher))
    if norm == 'batch':
        norm_of = nn.BatchNorm1d(5, eps=1e-4, affine=False).double()
        s, t = norm_of(s), norm_of(t)
    elif norm == 'l2':
        s, t = (x / x.norm(dim=1, keepdim=True) for x in (s, t))
    gap = (s * t).mean(0) - 1 if correlate else s - t
    expected = gap.abs().pow(alpha).mean()
    expected = (expected + 1e-5).log() if log else expected
    torch.testing.assert_close(value, expected)
    wanted = [student, *loss.projector.parameters()]
    for a, b in zip(torch.autograd.grad(value, wanted),
                    torch.autograd.grad(expected, wanted)):
        torch.testing.assert_close(a, b)


def test_standardize():
    x = numbers(0, 2, 3, 4, 7).requires_grad_()
    valid = numbers(1, 2, 4, 7) > 0
    z = standardize(x, valid, 0.)
    inside = z.permute(0, 2, 3, 1)[valid]
    torch.testing.assert_close(inside.mean(0), x.new_zeros(3))
    torch.testing.assert_close(inside.var(0, unbiased=False), x.new_ones(3))
    assert not z.permute(0, 2, 3, 1)[~valid].any()
    assert torch.autograd.gradcheck(lambda x: standardize(x, valid, 1e-4), x)


def test_correlation():
    x, y = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    valid = numbers(2, 2, 4, 7) > 0
    rows = torch.cat([z.permute(0, 2, 3, 1)[valid] for z in (x, y)], 1)
    expected = torch.corrcoef(rows.T)[:3, 3:].abs().mean()
    torch.testing.assert_close(mean_correlation(x, y, valid), expected)
    one = x[:, :1]
    assert mean_correlation(one, -2 * one, valid).item() == pytest.approx(1)
    assert mean_correlation(x, y, valid & False) == 0
    assert mean_correlation(x, torch.ones_like(y), valid) == 0


def test_correlation_of_a_large_map_is_sampled():
    x, y = numbers(0, 2, 3, 150, 200), numbers(1, 2, 5, 150, 200)
    y[:, 0] += x[:, 0]
    every = torch.ones(2, 150, 200, dtype=torch.bool)
    few = mean_correlation(x, y, every)
    rows = torch.cat([z.transpose(0, 1).flatten(1) for z in (x, y)])
    exact = torch.corrcoef(rows)[:3, 3:].abs().mean()
    assert few.item() == pytest.approx(exact.item(), abs=.02)
    thin = (z[..., ::4, ::4] for z in (x, y, every))
    assert torch.equal(few, mean_correlation(*thin))


def test_correlation_of_many_channels_is_sampled():
    x, y = numbers(0, 2, 130, 6, 9), numbers(1, 2, 3, 6, 9)
    every = torch.ones(2, 6, 9, dtype=torch.bool)
    assert torch.equal(mean_correlation(x, y, every),
                       mean_correlation(x[:, ::2], y, every))


@pytest.mark.parametrize('norm', ['batch', 'l2', 'none'])
def test_the_maps_are_not_written_into(norm):
    student, teacher = numbers(0, 2, 3, 4, 6), numbers(1, 2, 3, 4, 6)
    before = student.clone(), teacher.clone()
    SRDLoss(3, 3, projector='none', norm=norm)(student, teacher)
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


def test_the_forward_leaves_the_correlation():
    loss = SRDLoss(4, 4, projector='none')
    assert loss.correlation is None
    x = torch.randn(2, 4, 30, 40)
    loss(x, torch.randn(2, 4, 30, 40))
    assert loss.correlation.item() == pytest.approx(.25, abs=.05)  # itself
    assert not loss.correlation.requires_grad


def test_mistakes():
    for name in ('form', 'projector', 'norm'):
        with pytest.raises(ValueError, match=f"{name} must be .*, not 'x'"):
            SRDLoss(3, 5, **{name: 'x'})
    with pytest.raises(ValueError, match='without a projector'):
        SRDLoss(3, 5, projector='none')
    with pytest.raises(ValueError, match='alpha must be at least 1, not 0.5'):
        SRDLoss(3, 5, alpha=.5)
    with pytest.raises(ValueError, match='teacher has 3 channels, not 5'):
        SRDLoss(3, 5)(torch.randn(2, 3, 4, 7), torch.randn(2, 3, 4, 7))

"""DISTLoss: the authors' numbers, plain loops, precision, constants."""
import pytest
import torch

from seg_kd.losses import DISTLoss

from .reference import golden, numbers


@pytest.mark.parametrize('beta, gamma', [(1, 1), (1, 0), (0, 1)])
def test_golden(beta, gamma):
    expected = golden('dist')[f'{beta}_{gamma}']
    student = (3 * numbers(0, 2, 7, 3, 5)).requires_grad_()
    value = DISTLoss(beta, gamma)(student, 3 * numbers(1, 2, 7, 3, 5))
    value.backward()
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    torch.testing.assert_close(student.grad[0],
                               torch.tensor(expected['gradient'],
                                            dtype=torch.double),
                               rtol=1e-6,
                               atol=1e-12)


def rho(x, y):
    x, y = x - x.mean(), y - y.mean()
    return x @ y / (x.norm() * y.norm() + 1e-8)  # the authors' epsilon


def vectors(seed, scale=3.):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, 19, 1, 1, generator=generator).double()


def test_the_authors_epsilon_on_vectors():
    value = DISTLoss()(vectors(0), vectors(1))
    assert value.item() == pytest.approx(1.77137447962, rel=1e-11)


@pytest.mark.parametrize('dtype, rtol', [(torch.double, 1e-9),
                                         (torch.float, 1e-4)])
@pytest.mark.parametrize('margin', [6., 12., 20., 40.])
def test_confident_logits(margin, dtype, rtol):
    """Most classes are likely nowhere; the epsilon decides what they count."""
    sure = margin * torch.nn.functional.one_hot(
        torch.arange(4 * 30) % 3, 19).double().T.view(1, 19, 4, 30)
    student, teacher = (sure + numbers(k, 1, 19, 4, 30) for k in (0, 1))
    everywhere = torch.ones(1, 4, 30, dtype=torch.bool)
    want = gradient(lambda s: loops(s, teacher, everywhere, 1., 1., 1.),
                    student)
    got = gradient(DISTLoss(), student.to(dtype), teacher.to(dtype))
    for a, b in zip(got, want):
        assert (a - b).norm() < rtol * b.norm() + 1e-14


def loops(student, teacher, mask, beta, gamma, temperature):
    s, t = ((x / temperature).softmax(1).movedim(1, 3)[mask]
            for x in (student, teacher))
    inter = sum(1 - rho(*p) for p in zip(s, t)) / len(s)
    intra = sum(1 - rho(*p) for p in zip(s.T, t.T)) / s.shape[1]
    return temperature**2 * (beta * inter + gamma * intra)


def gradient(loss, student, *others):
    student = student.clone().requires_grad_()
    value = loss(student, *others)
    return value.detach(), torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize('n', [1, 2])
def test_value_and_gradient_by_loops(n):
    student, teacher = numbers(0, n, 4, 3, 5), numbers(1, n, 4, 3, 5)
    mask = numbers(2, n, 3, 5) < .5
    got = gradient(DISTLoss(.3, 2., 1.5), student, teacher, mask)
    want = gradient(lambda s: loops(s, teacher, mask, .3, 2., 1.5), student)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('gap', [1., 1e-2, 1e-4])
def test_float32_precision(gap):
    """With classes that are rare, and a student that nearly agrees."""
    teacher = 2 * numbers(0, 1, 6, 40, 50)
    teacher[:, 0] -= 12
    student = teacher + gap * numbers(1, 1, 6, 40, 50)
    everywhere = torch.ones(1, 40, 50, dtype=torch.bool)
    student, teacher = student.float(), teacher.float()
    value, grad = gradient(DISTLoss(), student, teacher)
    want, truth = gradient(
        lambda s: loops(s, teacher.double(), everywhere, 1., 1., 1.),
        student.double())
    assert value.item() == pytest.approx(want.item(), rel=1e-6 + 1e-6 / gap)
    assert (grad - truth).norm() < (1e-6 + 1e-6 / gap) * truth.norm()


def test_many_positions_add_up():
    """Same values in each crop: float32 must not tire of adding them."""
    student, teacher = torch.randn(1, 3, 4, 64), torch.randn(1, 3, 4, 64)
    want = loops(student.double(), teacher.double(),
                 torch.ones(1, 4, 64, dtype=torch.bool), 1., 1., 1.)
    large = [x.tile(1, 1, 128, 8) for x in (student, teacher)]
    assert DISTLoss()(*large).item() == pytest.approx(want.item(), rel=1e-6)


def test_constants_have_correlation_zero_and_no_gradient():
    student, teacher = numbers(0, 1, 3, 2, 3), numbers(1, 1, 3, 2, 3)
    flat = torch.zeros_like(student)
    for pair in ((flat, teacher), (student, flat)):
        value, grad = gradient(DISTLoss(.5, .25, 2.), *pair)
        assert value.item() == pytest.approx(4 * .75)
        assert not grad.any()


def test_a_single_valid_position():
    student, teacher = numbers(0, 1, 3, 2, 3), numbers(1, 1, 3, 2, 3)
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    mask[0, 1, 2] = True
    value, grad = gradient(DISTLoss(), student, teacher, mask)
    s, t = (x[0, :, 1, 2].softmax(0) for x in (student, teacher))
    assert value.item() == pytest.approx(1 + 1 - rho(s, t).item())
    assert grad[0, :, 1, 2].all() and not grad[..., 0, :].any()

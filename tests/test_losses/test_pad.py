"""PADLoss: the reference's numbers, loops, the way from the warm stage."""
import pytest
import torch
from torch import nn

from seg_kd.losses import PADLoss

from .reference import golden, numbers

N, C = 7, 5  # of the golden numbers


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def column(vectors):
    """Vectors as maps of one position."""
    return vectors[:, :, None, None]


def test_on_vectors_it_is_the_reference():
    loss, want = PADLoss(C, C).double(), golden('pad')
    # their Linear has a bias, 1, which BN takes away
    for i, parameter in zip((0, 2, 3), loss.head.parameters()):
        value = numbers(i, *parameter.squeeze().shape)
        parameter.data = value.reshape(parameter.shape)
    student = column(numbers(20, N, C)).requires_grad_()
    value = loss(student, column(numbers(21, N, C)))
    assert value.item() == pytest.approx(want['value'], rel=1e-12)
    gradients = torch.autograd.grad(value, [student, *loss.head.parameters()])
    del want['gradients'][2]
    for found, expected in zip(gradients, want['gradients']):
        torch.testing.assert_close(found.reshape(torch.tensor(expected).shape),
                                   torch.tensor(expected).double(),
                                   rtol=1e-6,
                                   atol=1e-9)


def scatter(loss):
    """A head that says something."""
    for parameter in loss.head.parameters():
        nn.init.normal_(parameter)
    return loss.double()


@pytest.mark.parametrize('per', ['channel', 'position'])
def test_value_and_gradient_by_loops(per):
    loss = scatter(PADLoss(3, 4, per=per, eps=.1))
    student = torch.randn(2, 3, 5, 7).double().requires_grad_()
    teacher = torch.randn(2, 4, 5, 7).double()
    mask = torch.rand(2, 5, 7) < .7
    value = loss.eval()(student, teacher, mask)
    mean, spread = loss.regressor(student), loss.head(student)
    spread, terms = spread.expand_as(mean), []
    for i, y, x in mask.nonzero().tolist():
        for c in range(4):
            v = spread[i, c, y, x]
            gap = teacher[i, c, y, x] - mean[i, c, y, x]
            terms.append(gap**2 / (.1 + v.exp()) + v)
    want = sum(terms) / len(terms)
    torch.testing.assert_close(value, want)
    leaves = [student, *loss.parameters()]
    for pair in zip(*(torch.autograd.grad(x, leaves) for x in (value, want))):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize('per', ['channel', 'position'])
def test_gradcheck_through_the_batch_norm(per):
    loss = scatter(PADLoss(3, 4, per=per))
    student = torch.randn(2, 3, 2, 3).double().requires_grad_()
    teacher = torch.randn(2, 4, 4, 6).double()

    def value(student, *parameters):
        return loss(student, teacher)

    assert torch.autograd.gradcheck(value, (student, *loss.parameters()))


def test_tiles_do_not_show():
    loss = scatter(PADLoss(64, 64)).eval()
    student = torch.randn(1, 64, 80, 90).double().requires_grad_()
    teacher = torch.randn(1, 64, 80, 90).double()
    value, spread = loss(student, teacher), loss.head(student)
    want = (student - teacher)**2 / (1e-6 + spread.exp()) + spread
    torch.testing.assert_close(value, want.mean())
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0]
                                 for x in (value, want.mean())))


def test_warm_is_the_squared_error():
    loss = PADLoss(3, 4, warm=True)
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, 4, 4, 6)
    want = (loss.regressor(student) - teacher).square().mean()
    torch.testing.assert_close(loss(student, teacher), want)


def test_it_goes_on_where_the_warm_stage_ended():
    warm, loss = PADLoss(3, 4, warm=True), PADLoss(3, 4)
    loss.load_state_dict(warm.state_dict())
    maps = torch.randn(2, 3, 4, 6), torch.randn(2, 4, 4, 6)
    torch.testing.assert_close(loss(*maps), warm(*maps))


def test_the_head_learns_which_channels_are_hard():
    loss = PADLoss(4, 4)
    student = torch.randn(2, 4, 6, 8)
    noise = torch.randn(2, 4, 6, 8) * torch.tensor([.1, .3, 1., 3.])[:, None,
                                                                     None]
    adam = torch.optim.Adam(loss.head.parameters(), .05)
    for _ in range(300):
        adam.zero_grad()
        loss(student, student + noise).backward()
        adam.step()
    found = loss.head(student).mean((0, 2, 3)) / 2
    want = torch.tensor([.1, .3, 1., 3.]).log()
    torch.testing.assert_close(found, want, atol=.2, rtol=0)
    assert {p.grad.any().item() for p in loss.head.parameters()} == {True}


@pytest.mark.parametrize('bias', [-200., 200.])
def test_extreme_variances(bias):
    loss = PADLoss(4, 4)
    nn.init.constant_(loss.head[1].bias, bias)
    student = torch.randn(2, 4, 3, 5).requires_grad_()
    value = loss(student, torch.randn(2, 4, 3, 5))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    assert loss.head[1].bias.grad.isfinite().all()


def test_wrong_arguments():
    with pytest.raises(ValueError, match='eps must be positive'):
        PADLoss(3, 4, eps=0)
    with pytest.raises(ValueError, match="'channel' or 'position'"):
        PADLoss(3, 4, per='pixel')
    with pytest.raises(ValueError, match='student has 4 channels, not 3'):
        PADLoss(3, 4)(torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2))

"""FTLoss and Paraphraser: the authors' numbers, loops, scales, training."""
import pytest
import torch
from torch import nn

from seg_kd.losses import FTLoss, Paraphraser

from .reference import golden, numbers


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def fill(parameters, seed):
    """As ``golden/recipes/ft.py`` does: in the order of the layers."""
    for i, parameter in enumerate(parameters):
        parameter.data = .3 * numbers(seed + i, *parameter.shape)


@pytest.fixture
def paper():
    """The authors' modules, filled: 6 channels, a factor of 3."""
    paraphraser = Paraphraser(6, form='paper').double()
    fill(paraphraser.parameters(), 0)
    loss = FTLoss(6, 6, paraphraser, form='paper').double()
    fill(loss.translator.parameters(), 100)
    return loss, paraphraser


def test_paraphraser_is_the_authors(paper):
    paraphraser, want = paper[1].requires_grad_(), golden('ft')
    value = paraphraser(numbers(1, 2, 6, 5, 7))['reconstruction']
    assert value.item() == pytest.approx(want['reconstruction'], rel=1e-12)
    value.backward()
    gradient = paraphraser.encoder.convs[0].weight.grad[0, 1]
    torch.testing.assert_close(gradient,
                               torch.tensor(want['first_gradient']).double())


def test_loss_is_the_authors(paper):
    loss, want = paper[0], golden('ft')
    student = numbers(2, 2, 6, 5, 7).requires_grad_()
    factors = []
    loss.translator.register_forward_hook(
        lambda module, args, factor: factors.append(factor))
    value = loss(student, numbers(1, 2, 6, 5, 7))
    assert value.item() == pytest.approx(want['value'], rel=1e-12)
    gradients = torch.autograd.grad(
        value, [student, loss.translator[0].weight, factors[0]])
    for found, expected in zip(gradients, want['gradients']):
        torch.testing.assert_close(found[0, 1],
                                   torch.tensor(expected).double())


def loops(student, teacher, mask, p, dense):
    total = count = 0
    for s, t, keep in zip(student, teacher, mask):
        s, t = (x[:, keep] for x in (s, t))
        scale = s.numel()**.5 if dense else 1
        total += ((s / s.norm() - t / t.norm()).abs() * scale).pow(p).sum()
        count += s.numel()
    return total / count


@pytest.mark.parametrize('p', [1, 2])
@pytest.mark.parametrize('form', ['dense', 'paper'])
@pytest.mark.parametrize('n, size', [(1, (3, 5)), (2, (7, 4))])
def test_value_and_gradient_by_loops(p, form, n, size):
    loss = FTLoss(4, 4, p=p, form=form).double()
    loss.translator = nn.Sequential(nn.Conv2d(4, 4, 1).double())
    student = torch.randn(n, 4, *size).double().requires_grad_()
    teacher = torch.randn(n, 4, *size).double()
    mask = torch.rand(n, *size) < .7
    value = loss(student, teacher, mask)
    want = loops(loss.translator(student), teacher, mask, p, form == 'dense')
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0]
                                 for x in (value, want)))


def test_tiles_do_not_show():
    """Maps of more than one tile, against autograd."""
    loss = FTLoss(64, 64).double()
    loss.translator = nn.Sequential(nn.Conv2d(64, 64, 1).double())
    student = torch.randn(1, 64, 80, 90).double().requires_grad_()
    teacher = torch.randn(1, 64, 80, 90).double()
    value = loss(student, teacher)
    want = loops(loss.translator(student), teacher,
                 torch.ones(1, 80, 90, dtype=torch.bool), 1, True)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0]
                                 for x in (value, want)))


@pytest.mark.parametrize('p', [1, 2])
def test_constant_between_the_forms(p):
    """Dense is the paper's times (C m)^(p/2)."""
    dense, paper = FTLoss(3, 5, p=p), FTLoss(3, 5, p=p, form='paper')
    paper.load_state_dict(dense.state_dict())
    maps = torch.randn(2, 3, 6, 4), torch.randn(2, 5, 6, 4)
    torch.testing.assert_close(dense(*maps),
                               paper(*maps) * (5 * 6 * 4)**(p / 2))


def test_length_of_a_map_does_not_count():
    loss = FTLoss(3, 5)
    student, teacher = torch.randn(2, 3, 6, 4), torch.randn(2, 5, 6, 4)
    torch.testing.assert_close(loss(student, 7 * teacher),
                               loss(student, teacher))


def test_paraphraser_is_frozen():
    paraphraser = Paraphraser(5)
    loss = FTLoss(3, 5, paraphraser)
    assert loss.paraphraser is paraphraser.encoder
    assert loss.translator[-2].out_channels == paraphraser.out_channels == 2
    assert {k
            for k, p in loss.named_parameters() if p.requires_grad
            } == {k
                  for k in loss.state_dict() if 'translator' in k}


def test_reconstruction_by_loops():
    paraphraser = Paraphraser(4).eval()
    nn.init.normal_(paraphraser.decoder.convs[-1].weight)
    paraphraser.encoder.std.fill_(2.)
    paraphraser.encoder.mean.copy_(torch.arange(4.))
    teacher = torch.randn(2, 4, 5, 7)
    mask = torch.rand(2, 5, 7) < .7
    found = paraphraser(teacher, mask)['reconstruction']
    scaled = (teacher - torch.arange(4.)[:, None, None]) / 2
    back = paraphraser.decoder(*paraphraser.encoder.trace(teacher))
    errors = (back - scaled).transpose(0, 1)[:, mask]
    torch.testing.assert_close(found, errors.abs().mean())
    energy = (teacher / 2).transpose(0, 1)[:, mask].square().sum()
    torch.testing.assert_close(paraphraser.relative_error,
                               errors.square().sum() / energy)


@pytest.mark.parametrize('form', ['dense', 'paper'])
def test_paraphraser_learns(form):
    """At the authors' 0.1 with momentum; dense at any magnitude."""
    teacher = torch.randn(2, 6, 1, 1) + torch.rand(2, 6, 8, 12)
    teacher = teacher.relu() * (1000 if form == 'dense' else 1)
    paraphraser = Paraphraser(6, form=form)
    sgd = torch.optim.SGD(paraphraser.parameters(), .1, .9)
    first = last = paraphraser(teacher)['reconstruction']
    for _ in range(80):
        sgd.zero_grad()
        last.backward()
        sgd.step()
        last = paraphraser(teacher)['reconstruction']
    assert last < .6 * first
    measured = paraphraser.encoder.mean.any()
    assert bool(measured) is (form == 'dense')


def test_wrong_arguments():
    with pytest.raises(ValueError, match='p must be 1 or 2'):
        FTLoss(3, 5, p=3)
    for make in (lambda **k: FTLoss(3, 5, **k),
                 lambda **k: Paraphraser(5, **k)):
        with pytest.raises(ValueError, match="'dense' or 'paper'"):
            make(form='papr')
    with pytest.raises(ValueError, match='the paraphraser 5'):
        Paraphraser(5)(torch.randn(1, 4, 2, 3))
    with pytest.raises(ValueError, match='student has 4 channels, not 3'):
        FTLoss(3, 5)(torch.randn(1, 4, 2, 3), torch.randn(1, 5, 2, 3))

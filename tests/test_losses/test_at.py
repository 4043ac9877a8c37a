"""ATLoss: its four forms, layers, and its second derivative."""
import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import ATLoss
from seg_kd.losses.at import attention

from .reference import columns, golden, numbers, unit

SMOOTH = ('dense', 'code', 'paper', 'jacobian')


def maps(channels=5, n=2, h=4, w=7):
    return numbers(0, n, 3, h, w), numbers(1, n, channels, h, w)


def naive(student, teacher, mask, form):
    """Image by image, position by position."""
    terms = []
    for s, t, keep in zip(student, teacher, mask):
        if form == 'jacobian':
            gap = torch.stack(columns(s, keep)) - torch.stack(columns(t, keep))
            terms.append(gap.square().sum().sqrt() / 2)
            continue
        a, b = (unit(torch.stack([v.square().mean()
                                  for v in columns(x, keep)])) for x in (s, t))
        square = (a - b).square().sum()
        terms.append(
            dict(dense=square, code=square / len(a),
                 paper=square.sqrt() / 2)[form])
    return sum(terms) / len(terms)


def test_golden():
    expected = golden('at')
    student, teacher = maps()
    value = ATLoss('code')(student.requires_grad_(), teacher)
    gradient, = torch.autograd.grad(value, student)
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    assert torch.allclose(gradient[1, :, 2],
                          student.new_tensor(expected['gradient']),
                          rtol=1e-12)


@pytest.mark.parametrize('form', SMOOTH)
def test_value_by_loops(form):
    student, teacher = maps(channels=3)
    mask = numbers(2, 2, 4, 7) > -.5
    value = ATLoss(form)(student, teacher, mask)
    torch.testing.assert_close(value, naive(student, teacher, mask, form))


def test_dense_is_the_code_times_positions():
    student, teacher = maps()
    torch.testing.assert_close(ATLoss()(student, teacher),
                               28 * ATLoss('code')(student, teacher))


def test_an_image_without_a_valid_position_is_left_out():
    student, teacher = maps()
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    mask[0] = False
    torch.testing.assert_close(ATLoss()(student, teacher, mask),
                               ATLoss()(student[1:], teacher[1:]))


def test_layers_add_up():
    pairs = [maps(), (numbers(3, 2, 6, 3, 5), numbers(4, 2, 2, 3, 5))]
    loss = ATLoss()
    torch.testing.assert_close(loss(*map(list, zip(*pairs))),
                               sum(loss(*pair) for pair in pairs))


def test_attention_is_compared_on_the_teachers_grid():
    student, teacher = numbers(0, 2, 3, 3, 4), numbers(1, 2, 5, 5, 9)
    resized = F.interpolate(attention(student), (5, 9), mode='bilinear')
    torch.testing.assert_close(ATLoss()(student, teacher),
                               ATLoss()(resized.sqrt(), teacher))


@pytest.mark.parametrize('p', [1., 2., 3.])
def test_attention(p):
    features = numbers(0, 2, 300, 17, 60)  # more than a tile
    torch.testing.assert_close(attention(features, p),
                               features.abs().pow(p).mean(1, keepdim=True))
    small = numbers(0, 1, 3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention(x, p), small)
    assert torch.autograd.gradgradcheck(lambda x: attention(x, p), small)


@pytest.mark.parametrize('form', SMOOTH)
def test_second_derivative(form):
    student, teacher = maps(channels=3, h=2, w=3)
    mask = numbers(2, 2, 2, 3) > -.5
    assert torch.autograd.gradgradcheck(
        lambda s: ATLoss(form)(s, teacher, mask), student.requires_grad_())


def test_mistakes():
    student, teacher = maps()
    with pytest.raises(ValueError, match="form must be .*, not 'sum'"):
        ATLoss('sum')
    with pytest.raises(ValueError, match='p must be at least 1, not 0'):
        ATLoss(p=0)
    with pytest.raises(ValueError, match='2 maps of the student and 1 of'):
        ATLoss()([student, student], [teacher])
    with pytest.raises(ValueError, match='3 and 5 do not agree'):
        ATLoss('jacobian')(student, teacher)


@pytest.mark.parametrize('form', SMOOTH)
def test_gradient_based(form):
    """Of the map of a network above which a task is, twice."""
    student, teacher = maps(channels=3, h=2, w=3)
    head, labels = numbers(2, 4, 3, 1, 1), torch.arange(12).view(2, 2, 3) % 4

    def gradient(features):
        task = F.cross_entropy(F.conv2d(features.tanh(), head), labels)
        return torch.autograd.grad(task, features, create_graph=True)[0]

    target = gradient(teacher.requires_grad_()).detach()
    assert torch.autograd.gradcheck(
        lambda s: ATLoss(form)(gradient(s), target), student.requires_grad_())
    assert ATLoss(form)(gradient(teacher), target) < 1e-6

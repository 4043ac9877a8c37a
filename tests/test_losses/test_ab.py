"""ABLoss: the authors' numbers, loops, layers."""
import pytest
import torch

from seg_kd.losses import ABLoss

from .reference import golden, numbers

SHAPES = [(2, 5, 7, 6), (2, 4, 3, 5), (2, 3, 2, 3)]  # of the golden numbers
WIDTHS = [shape[1] for shape in SHAPES]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('index, margin', [(0, 1.), (1, .5)])
def test_paper_form_is_the_authors(index, margin):
    loss = ABLoss(WIDTHS, WIDTHS, margin, form='paper')
    students = [numbers(i, *s).requires_grad_() for i, s in enumerate(SHAPES)]
    teachers = [numbers(9 + i, *s).relu() for i, s in enumerate(SHAPES)]
    teachers[0] -= .1
    value, want = loss(students, teachers), golden('ab')
    assert value.item() == pytest.approx(want['value'][index], rel=1e-12)
    gradients = torch.autograd.grad(value, students)
    for found, expected in zip(gradients, want['gradient'][index]):
        torch.testing.assert_close(found[1, :, 1],
                                   torch.tensor(expected).double())


@pytest.mark.parametrize('n', [1, 2])
def test_value_by_loops(n):
    loss = ABLoss(3, 4, margin=.7).double()
    student = torch.randn(n, 3, 5, 7).double()
    teacher = torch.randn(n, 4, 5, 7).double()
    mask = torch.rand(n, 5, 7) < .6
    found = loss(student, teacher, mask)
    connected, terms = loss.connectors[0](student), []
    for i, y, x in mask.nonzero().tolist():
        for s, t in zip(connected[i, :, y, x], teacher[i, :, y, x]):
            short = (.7 - s if t > 0 else s + .7)
            terms.append(short**2 if short > 0 else 0 * s)
    torch.testing.assert_close(found, sum(terms) / len(terms))


def test_constant_between_the_forms():
    """The authors' is the dense one times 0.003 C m."""
    dense, paper = ABLoss(3, 4), ABLoss(3, 4, form='paper')
    paper.load_state_dict(dense.state_dict())
    maps = torch.randn(2, 3, 5, 7), torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(paper(*maps), .003 * 4 * 5 * 7 * dense(*maps))


def test_value_by_hand():
    """Zeros are one margin short of everything."""
    value = ABLoss([2, 2, 2], [2, 2, 2])([torch.zeros(1, 2, 3, 4)] * 3,
                                         [torch.randn(1, 2, 3, 4)] * 3)
    assert value == 1 + 1 / 2 + 1 / 4


def test_only_the_teachers_sign_counts():
    """So it may be tapped behind its ReLU as well as before."""
    loss = ABLoss(3, 4).eval()
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, 4, 4, 6)
    assert loss(student, teacher) == loss(student, 9 * teacher.relu())


def test_a_student_beyond_the_margin_rests():
    teacher = torch.randn(2, 4, 3, 5)
    student = (1.1 * teacher.sign()).requires_grad_()
    value = ABLoss(4, 4)(student, teacher)
    value.backward()
    assert value == 0 and not student.grad.any()


def test_tiles_do_not_show():
    student = torch.randn(1, 64, 80, 90).double().requires_grad_()
    teacher = torch.randn(1, 64, 80, 90).double()
    value = ABLoss(64, 64)(student, teacher)
    side = (teacher > 0).double() * 2 - 1
    want = (1 - side * student).clamp(min=0).square().mean()
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0]
                                 for x in (value, want)))


def test_layers_of_unequal_grids_and_a_mask():
    loss = ABLoss([3, 4], [4, 4])
    students = [torch.randn(2, 3, 8, 6), torch.randn(2, 4, 2, 3)]
    teachers = [torch.randn(2, 4, 8, 6), torch.randn(2, 4, 5, 3)]
    mask = torch.rand(2, 16, 12) < .6
    alone = ABLoss(3, 4)
    alone.connectors[0] = loss.connectors[0]
    want = (alone.eval()(students[0], teachers[0], mask) / 2 +
            ABLoss(4, 4)(students[1], teachers[1], mask))
    torch.testing.assert_close(loss.eval()(students, teachers, mask), want)


def test_wrong_arguments():
    with pytest.raises(ValueError, match='margin must be positive'):
        ABLoss(3, 4, margin=0)
    with pytest.raises(ValueError, match="'dense' or 'paper'"):
        ABLoss(3, 4, form='sum')
    with pytest.raises(ValueError, match='1 maps of the student and 1 of'):
        ABLoss([3, 3], [4, 4])(torch.randn(1, 3, 2, 2),
                               torch.randn(1, 4, 2, 2))
    with pytest.raises(ValueError, match='teacher has 3 channels, not 4'):
        ABLoss(3, 4)(torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2))

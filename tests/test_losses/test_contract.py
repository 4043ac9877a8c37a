"""What holds for every loss. A new loss adds one line to CASES."""
from typing import Callable, NamedTuple, Set

import pytest
import torch
from torch import Tensor, nn

from seg_kd.losses import AdaptationLoss, AffinityLoss, KALoss, Translator

NAMES = {
    f'adapter_{a}.{b}'
    for a in ('feature', 'affinity')
    for b in ('0.weight', '1.weight', '1.bias')
}


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    channels: int = 5  # of the teacher; the student has 4, or as many
    same: bool = False  # must channels agree?
    zero_at_teacher: bool = True
    ignores_crop: bool = True
    learning: Set[str] = set()


def ka(**kwargs) -> KALoss:
    return KALoss(4, 5, Translator(5, stride=2, ratio=.8), **kwargs)


CASES = {
    'adaptation': Case(AdaptationLoss, same=True),
    'adaptation_2_1': Case(lambda: AdaptationLoss(p=2, q=1), same=True),
    'affinity': Case(AffinityLoss, ignores_crop=False),
    'affinity_position': Case(lambda: AffinityLoss('position')),
    'ka': Case(ka, zero_at_teacher=False, ignores_crop=False, learning=NAMES),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


def student_map(case: Case, n=2, h=3, w=5, **kwargs) -> Tensor:
    return torch.randn(n, case.channels if case.same else 4, h, w, **kwargs)


def teacher_map(case: Case, n=2, h=6, w=10, **kwargs) -> Tensor:
    return torch.randn(n, case.channels, h, w, **kwargs)


def total(output) -> Tensor:
    return sum(output.values()) if isinstance(output, dict) else output


@pytest.mark.parametrize('n', [1, 2])
def test_scalar_and_differentiable(case, n):
    student = student_map(case, n).requires_grad_()
    value = total(case.make()(student, teacher_map(case, n)))
    value.backward()
    assert value.shape == () and value > 0
    assert student.grad.any() and student.grad.isfinite().all()


def test_zero_at_the_teacher(case):
    if not case.zero_at_teacher:
        pytest.skip('has adapters')
    teacher = teacher_map(case)
    student = teacher.clone().requires_grad_()
    value = total(case.make()(student, teacher))
    value.backward()
    assert 0 <= value < 1e-5
    assert student.grad.isfinite().all()


def test_odd_sizes_and_unequal_strides(case):
    student = student_map(case, h=3, w=4).requires_grad_()
    value = total(case.make()(student, teacher_map(case, h=5, w=9)))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_gradcheck_with_mask(case):
    loss = case.make().double()
    student = student_map(case, h=2, w=3, dtype=torch.double)
    teacher = teacher_map(case, h=4, w=6, dtype=torch.double)
    mask = torch.rand(2, 9, 7) < .8

    def run(x):
        return total(loss(x, teacher, mask))

    assert torch.autograd.gradcheck(run, student.requires_grad_())


def test_no_second_derivative(case):
    if case.learning:
        pytest.skip('autograd differentiates the adapters')
    student = student_map(case).requires_grad_()
    value = total(case.make()(student, teacher_map(case))).square()
    gradient, = torch.autograd.grad(value, student, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_no_gradient_into_the_teacher(case):
    teacher = teacher_map(case).requires_grad_()
    total(case.make()(student_map(case).requires_grad_(), teacher)).backward()
    assert teacher.grad is None


def test_every_parameter_learns(case):
    loss = case.make()
    total(loss(student_map(case).requires_grad_(),
               teacher_map(case))).backward()
    learning = {
        k
        for k, p in loss.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert learning == case.learning


def test_nothing_valid_is_zero(case):
    loss = case.make()
    student = student_map(case).requires_grad_()
    mask = torch.zeros(2, 12, 20, dtype=torch.bool)
    value = total(loss(student, teacher_map(case), mask))
    value.backward()
    assert value == 0
    assert student.grad is not None and not student.grad.any()
    for p in loss.parameters():  # DDP waits for every one
        assert not p.requires_grad or p.grad is not None


def test_ignored_positions_do_not_count(case):
    loss = case.make().eval()  # batch norm sees all
    h, w = 6, 10
    mask = torch.ones(2, h, w, dtype=torch.bool)
    mask[0, 2:] = False
    student = student_map(case, h=h, w=w).requires_grad_()
    teacher = teacher_map(case, h=h, w=w)
    # 3x3 kernels see neighbours, and times 0 a NaN stays one
    far = slice(5 if case.learning else 2, None)
    value = total(loss(student, teacher, mask))
    value.backward()
    changed = student.detach().clone()
    changed[0, :, far] = 1e4 if case.learning else float('nan')
    other = total(loss(changed, teacher, mask))
    assert torch.equal(value.detach(), other.detach())
    assert not student.grad[0, :, far].any()


def test_all_valid_mask_is_no_mask(case):
    loss = case.make().eval()
    student, teacher = student_map(case), teacher_map(case)
    mask = torch.ones(2, 24, 40, dtype=torch.bool)
    assert total(loss(student, teacher, mask)) == total(loss(student, teacher))


def test_value_ignores_crop_size(case):
    if not case.ignores_crop:
        pytest.skip('the paper adds rows')
    student, teacher = student_map(case, h=2, w=3), teacher_map(case, h=2, w=3)
    loss = case.make()
    torch.testing.assert_close(
        loss(student.tile(1, 1, 4, 3), teacher.tile(1, 1, 4, 3)),
        loss(student, teacher))


@pytest.mark.parametrize('scale', [0., 1e-20, 1e4])
def test_extreme_values(case, scale):
    student = (student_map(case) * scale).requires_grad_()
    value = total(case.make()(student, teacher_map(case) * scale))
    value.backward()
    assert value.isfinite() and value >= 0
    assert student.grad.isfinite().all()


def test_constant_maps(case):
    student = torch.ones_like(student_map(case)).requires_grad_()
    value = total(case.make()(student, torch.ones_like(teacher_map(case))))
    value.backward()
    assert value.isfinite() and value >= 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_input(case, dtype):
    loss = case.make().eval()
    student = student_map(case).to(dtype).requires_grad_()
    teacher = teacher_map(case).to(dtype)
    with torch.autocast('cpu', torch.bfloat16):
        value = total(loss(student, teacher))
    want = total(loss(student.float(), teacher.float()))
    value.backward()
    assert value.dtype is torch.float32
    assert torch.equal(value, want)
    assert student.grad.dtype is dtype and student.grad.isfinite().all()


def test_moves_the_student_to_the_teacher(case):
    loss = case.make()
    student = nn.Parameter(student_map(case, h=6, w=10))
    teacher = teacher_map(case)
    sgd = torch.optim.Adam([student, *loss.parameters()], .05)
    values = []
    for _ in range(60):
        sgd.zero_grad()
        value = total(loss(student, teacher))
        value.backward()
        sgd.step()
        values.append(value.item())
    assert values[-1] < .5 * values[0]


def test_state_survives_a_copy(case):
    loss, other = case.make(), case.make()
    other.load_state_dict(loss.state_dict())
    student, teacher = student_map(case), teacher_map(case)
    assert total(loss(student, teacher)) == total(other(student, teacher))


def test_wrong_shapes(case):
    with pytest.raises(ValueError, match='must be a map'):
        case.make()(student_map(case), teacher_map(case)[0])

"""What holds for every loss. A new loss adds one line to CASES."""
import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from seg_kd.losses import (ABLoss, AdaptationLoss, AffinityLoss, ATLoss,
                           BalancedLoss, CCKDLoss, CRDLoss, CWDLoss, DISTLoss,
                           FitNetLoss, FSPLoss, FTLoss, HCLLoss, HNDLoss,
                           ICKDLoss, KALoss, KDLoss, LogitStdLoss, PADLoss,
                           Paraphraser, PKTLoss, ReviewKDLoss, RKDLoss, SPLoss,
                           SRDLoss, Translator, VIDLoss)
from seg_kd.losses._functional import resize_mask

NAMES = {
    f'adapter_{a}.{b}'
    for a in ('feature', 'affinity')
    for b in ('0.weight', '1.weight', '1.bias')
}
HEADS = {  # of CRD
    f'{a}_head.{b}'
    for a in ('student', 'teacher')
    for b in ('weight', 'bias')
}


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    channels: int = 5  # of the teacher; the student has 4, or as many
    same: bool = False  # must channels agree?
    levels: int = 1  # more: lists of maps, each half the size of the last
    labels: bool = False  # are they needed?
    zero_at_teacher: bool = True
    negative: bool = False  # can the value be?
    ignores_crop: bool = True
    sees_all: bool = False  # do ignored positions enter, through BN or convs?
    smooth: bool = True  # is it differentiable everywhere that matters?
    pairs: bool = False  # must there be two instances or more?
    once: bool = False  # is the second derivative refused?
    fraction: float = .5  # of the first value that 60 steps go below
    learning: set[str] = set()


def ka(**kwargs) -> KALoss:
    return KALoss(4, 5, Translator(5, stride=2, ratio=.8), **kwargs)


# A new loss adds one line; what its tests need beyond it is in its own file.
CASES = {
    'adaptation':
    Case(AdaptationLoss, same=True, once=True),
    'adaptation_2_1':
    Case(lambda: AdaptationLoss(p=2, q=1), same=True, once=True),
    'affinity':
    Case(AffinityLoss, ignores_crop=False, once=True),
    'affinity_position':
    Case(lambda: AffinityLoss('position'), once=True),
    'dist':
    Case(DISTLoss, same=True, once=True),
    'dist_hot':
    Case(lambda: DISTLoss(.5, 2, temperature=3), same=True, once=True),
    'kd':
    Case(KDLoss, same=True, once=True),
    'kd_paper':
    Case(lambda: KDLoss(form='paper'),
         same=True,
         ignores_crop=False,
         once=True),
    'logit_std':
    Case(LogitStdLoss, same=True, once=True),
    'hnd':
    Case(HNDLoss, same=True),
    'hnd_sum':
    Case(lambda: HNDLoss('sum'), same=True, ignores_crop=False),
    'ka':
    Case(ka,
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning=NAMES),
    'reviewkd':
    Case(lambda: ReviewKDLoss([4, 4], [5, 5]),
         levels=2,
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning={
             f'levels.{i}.{k}'
             for i in (0, 1)
             for k in ('reduce.0.weight', 'reduce.1.weight', 'reduce.1.bias',
                       'expand.0.weight', 'expand.1.weight', 'expand.1.bias')
         } | {f'levels.0.attention.{k}'
              for k in ('weight', 'bias')},
         once=True),
    'reviewkd_hcl':
    Case(HCLLoss, same=True, levels=2, ignores_crop=False, once=True),
    'sp':
    Case(SPLoss, once=True),
    'sp_map':
    Case(lambda: SPLoss('paper', 'map'), pairs=True),
    'sp_class':
    Case(lambda: SPLoss(instances='class'), labels=True, ignores_crop=False),
    'pkt':
    Case(PKTLoss, once=True),
    'pkt_region':
    Case(lambda: PKTLoss('paper', 'region', grid=(2, 3)),
         ignores_crop=False,
         once=True),
    'rkd':
    Case(lambda: RKDLoss(angle_instances=None), once=True),
    'cckd':
    Case(CCKDLoss, once=True),
    'cckd_bilinear':
    Case(lambda: CCKDLoss('bilinear'), once=True),
    'ickd':
    Case(lambda: ICKDLoss(4, 5, grid=(1, 1)),
         zero_at_teacher=False,
         learning={f'embed.{k}'
                   for k in ('0.weight', '1.weight', '1.bias')}),
    'ickd_grid':
    Case(lambda: ICKDLoss(4, 5, grid=(2, 2), kernel_size=3),
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning={f'embed.{k}'
                   for k in ('0.weight', '1.weight', '1.bias')}),
    'ab':
    Case(lambda: ABLoss(4, 5),
         zero_at_teacher=False,
         sees_all=True,
         learning={
             f'connectors.0.{k}'
             for k in ('0.weight', '1.weight', '1.bias')
         },
         once=True),
    'ab_layers':
    Case(lambda: ABLoss([4, 4], [5, 5]),
         levels=2,
         zero_at_teacher=False,
         sees_all=True,
         learning={
             f'connectors.{i}.{k}'
             for i in (0, 1)
             for k in ('0.weight', '1.weight', '1.bias')
         },
         once=True),
    'ab_paper':
    Case(lambda: ABLoss(5, 5, form='paper'),
         same=True,
         zero_at_teacher=False,
         ignores_crop=False,
         once=True),
    'fsp':
    Case(lambda: FSPLoss([4, 4], [4, 4]), channels=4, same=True, levels=2),
    'fsp_connected':
    Case(lambda: FSPLoss([4, 4, 4], [5, 5, 5], pool='max', form='paper'),
         levels=3,
         zero_at_teacher=False,
         learning={f'connectors.{i}'
                   for i in '012'}),
    'ft':
    Case(lambda: FTLoss(4, 5, Paraphraser(5, ratio=.8)),
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning={
             f'translator.{i}.{k}'
             for i in (0, 2, 4)
             for k in ('weight', 'bias')
         }),
    'ft_paper':
    Case(lambda: FTLoss(4, 5, p=2, form='paper'),
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning={
             f'translator.{i}.{k}'
             for i in (0, 2, 4)
             for k in ('weight', 'bias')
         }),
    'pad':
    Case(lambda: PADLoss(4, 5),
         zero_at_teacher=False,
         negative=True,
         learning={f'regressor.{k}'
                   for k in ('weight', 'bias')}
         | {f'head.1.{k}'
            for k in ('weight', 'bias')}),
    'pad_position':
    Case(lambda: PADLoss(5, 5, per='position'),
         same=True,
         negative=True,
         zero_at_teacher=False,
         learning={f'head.1.{k}'
                   for k in ('weight', 'bias')}),
    'pad_warm':
    Case(lambda: PADLoss(4, 5, warm=True),
         zero_at_teacher=False,
         learning={f'regressor.{k}'
                   for k in ('weight', 'bias')}),
    'at':
    Case(ATLoss),
    'at_layers':
    Case(ATLoss, levels=2),
    'at_code':
    Case(lambda: ATLoss('code'), ignores_crop=False),
    'at_paper':
    Case(lambda: ATLoss('paper')),
    'at_jacobian':
    Case(lambda: ATLoss('jacobian'), same=True, ignores_crop=False),
    'crd':
    Case(lambda: CRDLoss(4, 5, queue=0),
         labels=True,
         zero_at_teacher=False,
         ignores_crop=False,
         learning=HEADS,
         once=True),
    'crd_class':
    Case(lambda: CRDLoss(4, 5, 'class', queue=0),
         labels=True,
         zero_at_teacher=False,
         ignores_crop=False,
         learning=HEADS,
         once=True),
    'crd_instance':
    Case(lambda: CRDLoss(4, 5, negatives='instance', queue=0),
         zero_at_teacher=False,
         ignores_crop=False,
         learning=HEADS,
         once=True),
    'fitnet':
    Case(lambda: FitNetLoss(4, 5),
         zero_at_teacher=False,
         learning={'regressor.0.weight'}),
    'fitnet_norm':
    Case(lambda: FitNetLoss(4, 5, kernel_size=3, connector='bn', relu=True),
         zero_at_teacher=False,
         ignores_crop=False,
         sees_all=True,
         learning={
             f'regressor.{k}'
             for k in ('0.weight', '1.weight', '1.bias')
         }),
    'fitnet_mlp':
    Case(lambda: FitNetLoss(4, 5, connector='mlp'),
         zero_at_teacher=False,
         learning={
             f'regressor.{k}'
             for k in ('0.weight', '0.bias', '2.weight')
         }),
    'srd':
    Case(lambda: SRDLoss(4, 5),
         zero_at_teacher=False,
         negative=True,
         learning={'projector.weight'}),
    'srd_mlp_l2':
    Case(lambda: SRDLoss(4, 5, projector='mlp', norm='l2', log=False, alpha=2),
         zero_at_teacher=False,
         learning={
             f'projector.{k}'
             for k in ('0.weight', '0.bias', '2.weight', '2.bias')
         }),
    'srd_none':
    Case(lambda: SRDLoss(5, 5, projector='none', log=False), same=True),
    'cwd':
    Case(lambda: CWDLoss(4, 5),
         zero_at_teacher=False,
         once=False,
         learning={'connector.weight'}),
    'cwd_mlp':
    Case(lambda: CWDLoss(4, 5, connector='mlp'),
         zero_at_teacher=False,
         once=False,
         learning={
             f'connector.{k}'
             for k in ('0.weight', '0.bias', '2.weight')
         }),
    'cwd_logits':
    Case(lambda: CWDLoss(5, 5, 1.), same=True, once=False),
    'balanced':
    Case(lambda: BalancedLoss(4, 5, width=16, depth=1),
         zero_at_teacher=False,
         once=False,
         learning={
             f'projector.{part}.{k}'
             for part in ('first', 'blocks.0.0', 'blocks.0.2', 'last.0',
                          'last.2')
             for k in ('weight', 'bias')
         }),
    'vid':
    Case(lambda: VIDLoss(4, 5),
         zero_at_teacher=False,
         negative=True,
         fraction=.4,
         learning={
             'raw_variance', 'mean.0.weight', 'mean.2.weight', 'mean.4.weight'
         }),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


class Maps(list):
    """One map or several, under one name."""

    def each(self, change) -> 'Maps':
        return Maps(change(m) for m in self)

    def require_grad(self) -> 'Maps':
        return self.each(lambda m: m.requires_grad_())

    def given(self):
        """As a loss takes it."""
        return self[0] if len(self) == 1 else list(self)


def student_map(case: Case, n=2, h=3, w=5, **kwargs) -> Maps:
    c = case.channels if case.same else 4
    return pyramid(case, n, c, h, w, kwargs)


def teacher_map(case: Case, n=2, h=6, w=10, **kwargs) -> Maps:
    return pyramid(case, n, case.channels, h, w, kwargs)


def pyramid(case: Case, n, c, h, w, kwargs) -> Maps:
    scales = [2**k for k in reversed(range(case.levels))]
    return Maps(torch.randn(n, c, k * h, k * w, **kwargs) for k in scales)


def run(case: Case,
        loss: nn.Module,
        student: Maps,
        teacher: Maps,
        mask=None) -> Tensor:
    """The loss as one number."""
    extra = {}
    if case.labels:  # the left half is one class, the right another
        labels = torch.zeros(len(student[0]), 12, 20, dtype=torch.long)
        labels[:, :, 10:] = 1
        extra['labels'] = labels
    output = loss(student.given(), teacher.given(), mask, **extra)
    return sum(output.values()) if isinstance(output, dict) else output


def finite(maps: Maps) -> bool:
    return all(m.grad.isfinite().all() for m in maps)


@pytest.mark.parametrize('n', [1, 2])
def test_scalar_and_differentiable(case, n):
    student = student_map(case, n).require_grad()
    value = run(case, case.make(), student, teacher_map(case, n))
    value.backward()
    assert value.shape == ()
    assert finite(student)
    if n > 1 or not case.pairs:
        assert case.negative or value > 0
        assert all(m.grad.any() for m in student)


def test_zero_at_the_teacher(case):
    if not case.zero_at_teacher:
        pytest.skip('has adapters, or another least value')
    teacher = teacher_map(case)
    student = teacher.each(Tensor.clone).require_grad()
    value = run(case, case.make(), student, teacher)
    value.backward()
    assert 0 <= value < 1e-5
    assert finite(student)


def test_odd_sizes_and_unequal_strides(case):
    student = student_map(case, h=3, w=4).require_grad()
    value = run(case, case.make(), student, teacher_map(case, h=5, w=9))
    value.backward()
    assert value.isfinite() and finite(student)


def test_gradcheck_with_mask(case):
    if not case.smooth:
        pytest.skip('has kinks: see the test of its own')
    loss = case.make().double()
    student = student_map(case, h=2, w=3, dtype=torch.double).require_grad()
    teacher = teacher_map(case, h=4, w=6, dtype=torch.double)
    mask = torch.rand(2, 9, 7) < .8

    def value(*maps):
        return run(case, loss, Maps(maps), teacher, mask)

    assert torch.autograd.gradcheck(value, tuple(student))


def test_no_second_derivative(case):
    if not case.once:
        pytest.skip('autograd differentiates it')
    student = student_map(case).require_grad()
    value = run(case, case.make(), student, teacher_map(case)).square()
    gradient, = torch.autograd.grad(value, student[:1], create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_no_gradient_into_the_teacher(case):
    teacher = teacher_map(case).require_grad()
    student = student_map(case).require_grad()
    run(case, case.make(), student, teacher).backward()
    assert all(m.grad is None for m in teacher)


def test_every_parameter_learns(case):
    loss = case.make()
    student = student_map(case).require_grad()
    run(case, loss, student, teacher_map(case)).backward()
    learning = {
        k
        for k, p in loss.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert learning == case.learning


def test_nothing_valid_is_zero(case):
    loss = case.make()
    student = student_map(case).require_grad()
    mask = torch.zeros(2, 12, 20, dtype=torch.bool)
    value = run(case, loss, student, teacher_map(case), mask)
    value.backward()
    assert value == 0
    assert all(m.grad is not None and not m.grad.any() for m in student)
    for p in loss.parameters():  # DDP waits for every one
        assert not p.requires_grad or p.grad is not None


def test_ignored_positions_do_not_count(case):
    loss = case.make().eval()  # batch norm sees all
    h, w = 6, 10
    mask = torch.ones(2, h, w, dtype=torch.bool)
    mask[0, 2:] = False
    student = student_map(case, h=h, w=w).require_grad()
    teacher = teacher_map(case, h=h, w=w)
    # 3x3 kernels see neighbours, and times 0 a NaN stays one
    first = (5 if case.sees_all else 2) / h
    bad = 1e4 if case.sees_all else float('nan')
    value = run(case, loss, student, teacher, mask)
    value.backward()

    def far(m):
        return slice(round(first * m.shape[2]), None)

    changed = student.each(lambda m: m.detach().clone())
    for m in changed:
        m[0, :, far(m)] = bad
    other = run(case, loss, changed, teacher, mask)
    assert torch.equal(value.detach(), other.detach())
    assert not any(m.grad[0, :, far(m)].any() for m in student)


@pytest.mark.parametrize('size', [(6, 10), (3, 5)])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_what_is_not_finite_under_the_mask_counts_as_zero(case, bad, size):
    """In the value, and in every gradient; whatever sees ignored positions."""
    mask = torch.ones(2, 6, 10, dtype=torch.bool)
    mask[0, 2:] = False
    maps = student_map(case, 2, *size), teacher_map(case)
    loss, other = case.make(), case.make()
    other.load_state_dict(loss.state_dict())
    want = all_gradients(case, loss, maps, mask, 0.)
    got = all_gradients(case, other, maps, mask, bad)
    for a, b in zip(got, want, strict=True):
        assert a.isfinite().all()
        if a.shape[2:] in [m.shape[2:] for m in maps[0]]:
            a, b = (valid_part(x, mask, 0.) for x in (a, b))
        assert torch.equal(a, b)


def valid_part(m, mask, ignored):
    return m.where(resize_mask(mask, m.shape[2:])[:, None], ignored)


def all_gradients(case, loss, maps, mask, ignored):
    """Value and gradients, with a number put under the mask."""
    student, teacher = (x.each(lambda m: valid_part(m, mask, ignored))
                        for x in maps)
    torch.manual_seed(1)
    value = run(case, loss, student.require_grad(), teacher, mask)
    value.backward()
    return [
        value.detach(), *(m.grad for m in student),
        *(p.grad for p in loss.parameters() if p.grad is not None)
    ]


def test_float64_is_not_rounded(case):
    """An integer count under a fraction would take the default precision."""
    mask = torch.rand(2, 9, 7) < .7
    maps = [f(case, dtype=torch.double) for f in (student_map, teacher_map)]
    loss, found = case.make().double(), []
    try:
        for default in (torch.float, torch.double):
            torch.set_default_dtype(default)
            loss.zero_grad()
            other = copy.deepcopy(loss)
            found.append(all_gradients(case, other, maps, mask, 0.))
    finally:
        torch.set_default_dtype(torch.float)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_one_position(case):
    """Batch norm cannot train on it; all else can."""
    loss = case.make()
    norms = any(isinstance(m, nn.BatchNorm2d) for m in loss.modules())
    student = student_map(case, 1, 1, 1).require_grad()
    teacher = teacher_map(case, 1, 1, 1)
    if norms and not getattr(loss, 'warm', False):
        with pytest.raises(ValueError, match='single 1x1 map'):
            run(case, loss, student, teacher)
        loss.eval()
    run(case, loss, student, teacher).backward()
    assert finite(student)


def test_all_valid_mask_is_no_mask(case):
    loss = case.make().eval()
    student, teacher = student_map(case), teacher_map(case)
    mask = torch.ones(2, 24, 40, dtype=torch.bool)
    assert torch.equal(run(case, loss, student, teacher, mask),
                       run(case, loss, student, teacher))


def test_value_ignores_crop_size(case):
    if not case.ignores_crop:
        pytest.skip('not in this form, see the docstring')
    student, teacher = student_map(case, h=2, w=3), teacher_map(case, h=2, w=3)
    loss = case.make()
    large = [x.each(lambda m: m.tile(1, 1, 4, 3)) for x in (student, teacher)]
    torch.testing.assert_close(run(case, loss, *large),
                               run(case, loss, student, teacher))


@pytest.mark.parametrize('scale', [0., 1e-20, 1e4])
def test_extreme_values(case, scale):
    student = student_map(case).each(lambda m: m * scale).require_grad()
    teacher = teacher_map(case).each(lambda m: m * scale)
    value = run(case, case.make(), student, teacher)
    value.backward()
    assert value.isfinite() and (case.negative or value >= 0)
    assert finite(student)


def test_constant_maps(case):
    student = student_map(case).each(torch.ones_like).require_grad()
    teacher = teacher_map(case).each(torch.ones_like)
    value = run(case, case.make(), student, teacher)
    value.backward()
    assert value.isfinite() and (case.negative or value >= 0)
    assert finite(student)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_input(case, dtype):
    loss = case.make().eval()
    student = student_map(case).each(lambda m: m.to(dtype)).require_grad()
    teacher = teacher_map(case).each(lambda m: m.to(dtype))
    with torch.autocast('cpu', torch.bfloat16):
        value = run(case, loss, student, teacher)
    want = run(case, loss, student.each(Tensor.float),
               teacher.each(Tensor.float))
    value.backward()
    assert value.dtype is torch.float32
    assert torch.equal(value, want)
    assert student[0].grad.dtype is dtype and finite(student)


def test_moves_the_student_to_the_teacher(case):
    loss = case.make()
    student = student_map(case, h=6, w=10).each(nn.Parameter)
    teacher = teacher_map(case)
    adam = torch.optim.Adam([*student, *loss.parameters()], .05)
    values = []
    for _ in range(60):
        adam.zero_grad()
        value = run(case, loss, student, teacher)
        value.backward()
        adam.step()
        values.append(value.item())
    if case.negative:
        assert values[-1] < values[0] - abs(values[0]) * case.fraction
    else:
        assert values[-1] < case.fraction * values[0]


def test_state_survives_a_copy(case):
    loss, other = case.make(), case.make()
    other.load_state_dict(loss.state_dict())
    student, teacher = student_map(case), teacher_map(case)
    torch.manual_seed(1)
    value = run(case, loss, student, teacher)
    torch.manual_seed(1)
    assert torch.equal(run(case, other, student, teacher), value)


def test_wrong_shapes(case):
    student, teacher = student_map(case), teacher_map(case)
    with pytest.raises(ValueError, match='must be a map'):
        run(case, case.make(), student, teacher.each(lambda m: m[0]))

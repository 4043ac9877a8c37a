"""Relations on a GPU that is slow in float64: float32, without TF32.

Forced on a CPU; the same lines run there.
"""
import types

import pytest
import torch

from seg_kd.losses import (AffinityLoss, CCKDLoss, PKTLoss, RKDLoss, SPLoss,
                           _gram)

from . import reference
from .relations import error, gradient
from .test_affinity import pair

CUDA = torch.device('cuda')


@pytest.fixture
def slow(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(_gram, 'fast_doubles', lambda device: False)


@pytest.mark.parametrize('gap', [.1, .01])
@pytest.mark.parametrize('kind', ['mean', 'classes', 'few channels'])
def test_affinity(kind, gap, slow):
    """As its docstring and README.md say."""
    size = 15, 33
    student, teacher = pair(kind, gap, 64, 96, size)
    value, grad = gradient(AffinityLoss(), student, teacher)
    want, truth = gradient(reference.fast_affinity, student.double(),
                           teacher.double())
    mean_square = want**2 / (size[0] * size[1])  # of differences of cosines
    assert value == pytest.approx(want, rel=1e-6 + 1e-8 / mean_square)
    wrong = (grad - truth).norm() / truth.norm()
    assert wrong < 1e-5 + 1e-7 / gap**2
    if gap == .01:  # float64 would have been finer
        assert wrong > 1e-5


def test_affinity_of_equal_maps(slow):
    base = torch.randn(2, 16, 9, 11)
    for mix in (torch.eye(16), torch.linalg.qr(torch.randn(24, 16))[0]):
        student = torch.einsum('dc,nchw->ndhw', mix, base)
        value, grad = gradient(AffinityLoss('position'), student, base)
        assert 0 <= value < 2e-4
        assert not grad.any()


@pytest.mark.parametrize('kind', [
    SPLoss,
    lambda: CCKDLoss('bilinear'),
    CCKDLoss,
    PKTLoss,
    lambda: lambda *maps: RKDLoss(angle_weight=0)(*maps)['distance'],
])
@pytest.mark.parametrize('gap', [1., .01])
def test_relations(kind, gap, slow, monkeypatch):
    """Values to 1e-6 of what is subtracted, 1 at most."""
    teacher = torch.randn(2, 12, 9, 11).relu()
    student = teacher + gap * torch.randn_like(teacher)
    value, grad = gradient(kind(), student, teacher)
    monkeypatch.undo()
    want = gradient(kind(), student.double(), teacher.double())
    assert value == pytest.approx(want[0], rel=1e-5, abs=1e-6)
    assert error((want[0], grad), want) < (1e-5 if gap == 1 else 1e-3)


def test_nothing_is_read_in_float64(slow):
    torch.set_float32_matmul_precision('high')  # switched off in its place
    try:
        assert _gram.Rows(torch.randn(5, 3)).dtype is torch.float32
    finally:
        torch.set_float32_matmul_precision('highest')
    assert _gram.product_dtype(torch.randn(5, 3)) is torch.float32
    assert _gram.product_dtype(torch.randn(5, 3).double()) is torch.double


@pytest.mark.parametrize('capability, fast', [((7, 0), False), ((7, 5), False),
                                              ((8, 0), True), ((8, 6), False),
                                              ((8, 9), False), ((9, 0), True),
                                              ((10, 0), True),
                                              ((12, 0), False)])
@pytest.mark.parametrize('allowed', ['highest', 'high'])
def test_by_capability(capability, fast, allowed, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability',
                        lambda device: capability)
    rows = types.SimpleNamespace(device=CUDA, dtype=torch.float32)
    want = torch.double if fast else torch.float32
    assert _gram.product_dtype(rows) is want
    settings = torch.backends.cuda.matmul
    torch.set_float32_matmul_precision(allowed)
    try:
        before = settings.allow_tf32
        with pytest.raises(KeyError), _gram.exact_floats(CUDA):
            assert settings.allow_tf32 == (fast and before)
            raise KeyError
        assert settings.allow_tf32 == before == (allowed == 'high')
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision('highest')
    assert _gram.fast_doubles(torch.device('cpu'))


def test_tf32_allowed_through_the_new_api(monkeypatch):
    settings = torch.backends.cuda.matmul
    if not hasattr(settings, 'fp32_precision'):
        pytest.skip('a torch that has none')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device:
                        (8, 6))
    before = settings.fp32_precision
    settings.fp32_precision = 'tf32'
    try:
        with _gram.exact_floats(CUDA):
            assert settings.fp32_precision == 'ieee'
        assert settings.fp32_precision == 'tf32'
    finally:
        settings.fp32_precision = before

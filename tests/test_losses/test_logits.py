"""What the losses on logits share: grids, strips, errors."""
import pytest
import torch

from seg_kd.losses import DISTLoss, KDLoss, LogitStdLoss, _logits
from seg_kd.losses._functional import match_size

from . import reference

LOSSES = {
    'kd': KDLoss,
    'kd_paper': lambda **kwargs: KDLoss(form='paper', **kwargs),
    'dist': lambda **kwargs: DISTLoss(2., .5, 1.5, **kwargs),
    'logit_std': LogitStdLoss
}
GRIDS = {  # student, teacher
    'equal': ((6, 10), (6, 10)),
    'finer': ((3, 5), (12, 20)),
    'odd': ((4, 5), (9, 19)),
    'coarser': ((9, 11), (3, 4)),
    'one row': ((1, 6), (8, 3))
}


@pytest.fixture(params=LOSSES)
def make(request):
    torch.manual_seed(0)
    return LOSSES[request.param]


@pytest.fixture
def one_row(monkeypatch):
    """Strips of a single row."""
    monkeypatch.setattr(
        _logits, 'tiles', lambda size, rows, device:
        (slice(i, i + 1) for i in range(rows)))


def pair(grid, **kwargs):
    small, large = GRIDS[grid]
    student = torch.randn(2, 5, *small, dtype=torch.double, requires_grad=True)
    return student, torch.randn(2, 5, *large, dtype=torch.double)


def gradient(loss, student, *others):
    value = loss(student, *others)
    return value.detach(), torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize('grid', GRIDS)
def test_maps_resized_in_one_piece(make, grid, monkeypatch):
    """As a GPU does; of a much coarser grid it needs not all rows."""
    student, teacher = pair(grid)
    want = gradient(make(), student, teacher)
    monkeypatch.setattr(_logits, 'is_one_kernel', lambda x: True)
    torch.testing.assert_close(gradient(make(), student, teacher), want)


@pytest.mark.parametrize('grid', GRIDS)
def test_strips_are_the_resized_map(make, grid, one_row):
    student, teacher = pair(grid)
    mask = torch.rand(2, 24, 40) < .7
    got = gradient(make(), student, teacher, mask)
    want = gradient(lambda s, *others: make()(match_size(s, teacher), *others),
                    student, teacher, mask)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('grid', GRIDS)
def test_any_number_of_strips(make, grid, monkeypatch):
    student, teacher = pair(grid)
    mask = torch.rand(2, 24, 40) < .7
    whole = gradient(make(), student, teacher, mask)
    monkeypatch.setattr(
        _logits, 'tiles', lambda size, rows, device:
        (slice(i, i + 5) for i in range(0, rows, 5)))
    torch.testing.assert_close(gradient(make(), student, teacher, mask), whole)


def test_grid_of_the_mask(make, one_row):
    student, teacher = pair('finer')
    mask = torch.rand(2, 24, 41) < .7
    got = gradient(make(grid='mask'), student, teacher, mask)
    like = mask[:, None]
    want = gradient(
        lambda s, t, m: make()(match_size(s, like), match_size(t, like), m),
        student, teacher, mask)
    torch.testing.assert_close(got, want)


def test_no_map_of_full_size(make):
    student = torch.randn(2, 19, 16, 32, requires_grad=True)
    teacher = torch.randn(2, 19, 32, 64)
    mask = torch.ones(2, 256, 512, dtype=torch.bool)
    with reference.Largest() as most:
        make(grid='mask')(student, teacher, mask).backward()
    assert most.elements <= 2**18 < mask[:, None].expand(-1, 19, -1,
                                                         -1).numel() / 8


def test_channels_last(make):
    student, teacher = pair('equal')
    want = gradient(make(), student, teacher)
    last = student.detach().to(memory_format=torch.channels_last)
    got = gradient(make(), last.requires_grad_(), teacher)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('size, message', [
    ((2, 4, 6, 10), 'student has 5 classes and teacher 4'),
    ((3, 5, 6, 10), 'student has 2 images and teacher 3'),
])
def test_unequal(make, size, message):
    with pytest.raises(ValueError, match=message):
        make()(torch.randn(2, 5, 3, 5), torch.randn(size))


def test_one_class(make):
    with pytest.raises(ValueError, match='two or more classes'):
        make()(torch.randn(2, 1, 3, 5), torch.randn(2, 1, 3, 5))


def test_wrong_settings(make):
    with pytest.raises(ValueError, match="not 'student'"):
        make(grid='student')
    with pytest.raises(ValueError, match='needs a mask'):
        make(grid='mask')(*pair('equal'))
    with pytest.raises(ValueError, match='mask has 3 images'):
        make(grid='mask')(*pair('equal'), torch.rand(3, 6, 10) < 2)
    with pytest.raises(ValueError, match='mask must be bool'):
        make(grid='mask')(*pair('equal'), torch.rand(2, 6, 10))


@pytest.mark.parametrize('loss', [KDLoss, DISTLoss, LogitStdLoss])
@pytest.mark.parametrize('temperature', [0., -1., float('nan')])
def test_wrong_temperature(loss, temperature):
    with pytest.raises(ValueError, match='temperature must be above 0'):
        loss(temperature=temperature)

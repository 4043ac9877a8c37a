"""ICKDLoss: the authors' numbers, loops over cells, masks, small cells."""
import pytest
import torch
from torch.nn.functional import normalize

from seg_kd.losses import ICKDLoss
from seg_kd.losses.ickd import compare_channels, compare_positions

from .reference import golden, numbers


@pytest.mark.parametrize('code, kernel_size, divisor', [('cifar', 1, 1),
                                                        ('imagenet', 3, 3)])
def test_golden(code, kernel_size, divisor):
    expected = golden('ickd')[code]
    loss = ICKDLoss(3, 6, grid=(1, 1), kernel_size=kernel_size).double()
    with torch.no_grad():
        for seed, parameter in enumerate(loss.embed.parameters()):
            parameter.copy_(numbers(10 + seed, *parameter.shape))
    student = numbers(0, 3, 3, 5, 4).requires_grad_()
    value = loss(student, numbers(1, 3, 6, 5, 4)) / divisor
    gradients = torch.autograd.grad(value, [student, loss.embed[0].weight])
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    for found, key in ((gradients[0][0, 1].flatten(), 'student'),
                       (gradients[1][:, 0, 0, 0], 'weight')):
        want = found.new_tensor(expected[key])
        torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def identity(channels, **kwargs) -> ICKDLoss:
    """The student comes through as it is."""
    loss = ICKDLoss(channels, channels, **kwargs).double().eval()
    loss.embed = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    loss.embed[0].weight = torch.empty(0, dtype=torch.double)
    return loss


def rows(features, keep):
    flat = features[:, keep]
    return normalize(flat @ flat.T, dim=1)


def naive(student, teacher, masks, grid):
    """Mean over the cells that have something to see in both."""
    found = []
    for n in range(len(student)):
        parts = []
        for x, mask in zip((student, teacher), masks):
            parts.append([
                rows(*cell) if cell[1].any() else None
                for cell in cells(x[n], mask[n], grid)
            ])
        found += [(s - t).square().sum() / len(student[0])
                  for s, t in zip(*parts) if s is not None and t is not None]
    return sum(found) / len(found)


def cells(x, mask, grid):
    for y in torch.arange(x.shape[1]).tensor_split(grid[0]):
        for columns in torch.arange(x.shape[2]).tensor_split(grid[1]):
            yield x[:, y][..., columns], mask[y][:, columns]


@pytest.mark.parametrize('channels, grid', [(4, (1, 1)), (4, (2, 3)),
                                            (150, (2, 3))])
def test_against_loops(channels, grid):
    student = numbers(0, 2, channels, 5, 7).requires_grad_()
    teacher = numbers(1, 2, channels, 5, 7)
    mask = numbers(2, 2, 5, 7) > -.5
    mask[0, :3, :3] = False  # a cell with nothing to see
    value = identity(channels, grid=grid)(student, teacher, mask)
    want = naive(student, teacher, (mask, mask), grid)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(*(torch.autograd.grad(v, student)[0]
                                 for v in (value, want)))


def test_nothing_is_resized():
    student, teacher = numbers(0, 2, 4, 3, 5), numbers(1, 2, 4, 6, 9)
    masks = [torch.ones(2, *x.shape[2:]) > 0 for x in (student, teacher)]
    value = identity(4, grid=(2, 2))(student, teacher)
    torch.testing.assert_close(value, naive(student, teacher, masks, (2, 2)))


def test_a_cell_must_show_something_in_both_maps():
    student, teacher = numbers(0, 1, 4, 2, 2), numbers(1, 1, 4, 4, 4)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[:, :2, 1:2] = mask[:, 1, 0] = False  # a quarter: none in the student
    loss = identity(4, grid=(2, 2))
    value = loss(student.requires_grad_(), teacher, mask)
    gradient, = torch.autograd.grad(value, student)
    masks = torch.tensor([[[False, True], [True, True]]]), mask
    torch.testing.assert_close(value, naive(student, teacher, masks, (2, 2)))
    assert not gradient[..., 0, 0].any() and gradient[..., 1, 1].any()


def test_no_more_cells_than_positions():
    student, teacher = numbers(0, 1, 4, 3, 5), numbers(1, 1, 4, 6, 9)
    assert torch.equal(
        identity(4, grid=(16, 16))(student, teacher),
        identity(4, grid=(3, 5))(student, teacher))


@pytest.mark.parametrize('deviation, tolerance', [(1., 1e-5), (1e-2, 1e-4),
                                                  (1e-3, 1e-2)])
def test_both_ways_in_float32(deviation, tolerance):
    teacher = numbers(0, 2, 64, 6).relu()
    student = (teacher + deviation * numbers(1, 2, 64, 6)).float()
    teacher = teacher.float()
    wanted = evaluate(compare_channels, student.double(), teacher.double())
    for compare, tolerance in ((compare_channels, tolerance),
                               (compare_positions, 1e-6)):
        for found, want in zip(evaluate(compare, student, teacher), wanted):
            assert (found - want).norm() < tolerance * want.norm()


def evaluate(compare, student, teacher):
    student = student.clone().requires_grad_()
    value = compare(student, teacher)
    return value, torch.autograd.grad(value.sum(), student)[0]


def test_dead_channels_are_zero_rows():
    student, teacher = numbers(0, 1, 8, 1, 2), numbers(1, 1, 8, 1, 2)
    student[:, 0] = teacher[:, :3] = 0.  # 0: in both, 1 and 2: of the teacher
    loss = identity(8, grid=(1, 1))
    for few in range(2):  # 8 rows: by channels; 80: by positions
        mask = torch.ones(1, 1, 2, dtype=torch.bool)
        want = naive(student, teacher, (mask, mask), (1, 1))
        torch.testing.assert_close(loss(student, teacher), want)
        student, teacher = (torch.cat([x] * 10, 1) for x in (student, teacher))
        loss = identity(80, grid=(1, 1))


def test_orthogonal_channels_mixed_by_sign():
    """Row i of the Gram matrix turns over with its channel."""
    teacher = torch.eye(4).double().reshape(1, 4, 2, 2)
    signs = torch.tensor([1., 1., -1., 1.]).double()[:, None, None]
    assert identity(4, grid=(1, 1))(teacher * signs, teacher) == 0


def test_wrong_input():
    with pytest.raises(ValueError, match='1 x 1'):
        ICKDLoss(3, 4, grid=(0, 1))
    with pytest.raises(ValueError, match='odd'):
        ICKDLoss(3, 4, kernel_size=2)
    loss = ICKDLoss(3, 4)
    with pytest.raises(ValueError, match='student has 2 channels, not 3'):
        loss(torch.randn(1, 2, 3, 3), torch.randn(1, 4, 3, 3))
    with pytest.raises(ValueError, match='student has 1 images'):
        loss(torch.randn(1, 3, 3, 3), torch.randn(2, 4, 3, 3))
    with pytest.raises(ValueError, match='single 1x1 map'):
        loss(torch.randn(1, 3, 1, 1), torch.randn(1, 4, 3, 3))


def test_any_memory_format():
    student, teacher = numbers(0, 2, 4, 3, 5), numbers(1, 2, 4, 6, 9)
    loss = identity(4, grid=(2, 2))
    last = [
        x.to(memory_format=torch.channels_last) for x in (student, teacher)
    ]
    torch.testing.assert_close(loss(*last), loss(student, teacher))

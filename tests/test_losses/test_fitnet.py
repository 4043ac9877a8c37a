"""FitNetLoss: value, forms, grids."""
import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import FitNetLoss

from .reference import golden, numbers


def with_golden_weights(**kwargs) -> FitNetLoss:
    loss = FitNetLoss(3, 5, **kwargs).double()
    with torch.no_grad():
        loss.regressor[0].weight.copy_(numbers(2, 5, 3, 1, 1))
    return loss


def test_golden():
    expected = golden('fitnet')
    loss = with_golden_weights()
    student = numbers(0, 2, 3, 4, 7).requires_grad_()
    value = loss(student, numbers(1, 2, 5, 4, 7))
    gradients = torch.autograd.grad(value, [student, loss.regressor[0].weight])
    for name, found in dict(cirkd=value,
                            repdistiller=value,
                            student_gradient=gradients[0][0, :, 1],
                            weight_gradient=gradients[1].flatten(1)).items():
        assert torch.allclose(found,
                              found.new_tensor(expected[name]),
                              rtol=1e-12), name


def test_the_papers_form_is_half():
    maps = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    torch.testing.assert_close(
        with_golden_weights(form='paper')(*maps),
        with_golden_weights()(*maps) / 2)


def test_masked_mean_by_loops():
    loss = with_golden_weights()
    student, teacher = numbers(3, 2, 3, 4, 7), numbers(4, 2, 5, 4, 7)
    mask = numbers(5, 2, 4, 7) > 0
    weight = loss.regressor[0].weight.flatten(1)
    errors = [((weight @ student[n, :, y, x] - teacher[n, :, y, x])[c]**2)
              for n, y, x in mask.nonzero().tolist() for c in range(5)]
    assert loss(student, teacher, mask).item() == pytest.approx(
        (sum(errors) / len(errors)).item())


@pytest.mark.parametrize('small, large', [((3, 5), (6, 10)), ((4, 7), (2, 3))])
def test_resizing_commutes_with_the_regressor(small, large):
    """So the cheaper order is taken: the regressor first."""
    loss = with_golden_weights()
    student, teacher = numbers(3, 1, 3, *small), numbers(4, 1, 5, *large)
    resized = F.interpolate(student, large, mode='bilinear')
    torch.testing.assert_close(loss(student, teacher), loss(resized, teacher))


def test_regressor_with_norm_and_relu():
    loss = FitNetLoss(3, 5, kernel_size=3, connector='bn', relu=True)
    kinds = [type(m).__name__ for m in loss.regressor]
    assert kinds == ['Conv2d', 'BatchNorm2d', 'ReLU']
    student = torch.randn(2, 3, 4, 7)
    assert loss.regressor(student).shape == (2, 5, 4, 7)
    assert loss.regressor(student).min() == 0


def test_mistakes():
    with pytest.raises(ValueError, match="form must be .*, not 'code'"):
        FitNetLoss(3, 5, form='code')
    with pytest.raises(ValueError, match='kernel_size must be odd, not 2'):
        FitNetLoss(3, 5, kernel_size=2)
    student, teacher = torch.randn(2, 3, 4, 7), torch.randn(2, 5, 4, 7)
    with pytest.raises(ValueError, match='student has 5 channels, not 3'):
        FitNetLoss(3, 5)(teacher, teacher)
    with pytest.raises(ValueError, match='teacher has 3 channels, not 5'):
        FitNetLoss(3, 5)(student, student)

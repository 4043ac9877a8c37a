"""Translator: sizes, value against loops, training at the paper's rate."""
import pytest
import torch
from torch import nn

from seg_kd.losses import Translator
from seg_kd.losses.translator import split_stride


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('stride, factors', [(1, (1, 1, 1)), (2, (2, 1, 1)),
                                             (3, (3, 1, 1)), (4, (2, 2, 1)),
                                             (6, (3, 2, 1)), (8, (2, 2, 2))])
def test_split_stride(stride, factors):
    assert split_stride(stride) == factors


@pytest.mark.parametrize('stride', [0, 5, 16, -2])
def test_impossible_stride(stride):
    with pytest.raises(ValueError, match='three factors'):
        Translator(4, stride)


@pytest.mark.parametrize('stride', [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize('size', [(8, 16), (7, 13), (1, 1), (5, 2)])
def test_sizes(stride, size):
    translator = Translator(6, stride)
    teacher = torch.randn(2, 6, *size)
    code, sizes = translator.encoder.trace(teacher)
    assert code.shape == (2, 3, -(-size[0] // stride), -(-size[1] // stride))
    assert translator.decoder(code, sizes).shape == teacher.shape
    assert translator.out_channels == 3
    assert translator.encoder.stride == stride


def test_default_widths_are_those_of_factor_transfer():
    translator = Translator(10, ratio=.4)
    assert [c.out_channels for c in translator.encoder.convs] == [10, 4, 4]
    assert [c.out_channels for c in translator.decoder.convs] == [4, 10, 10]
    widths = [
        c.out_channels for c in Translator(10, widths=(7, 6, 5)).encoder.convs
    ]
    assert widths == [7, 6, 5]


def test_value_by_loops():
    translator = Translator(4, 2, alpha=.1).eval()
    nn.init.normal_(translator.decoder.convs[-1].weight)
    translator.encoder.std.fill_(2.)
    translator.encoder.mean.copy_(torch.arange(4.))
    teacher = torch.randn(2, 4, 5, 6)
    mask = torch.rand(2, 5, 6) < .7
    terms = translator(teacher, mask)
    scaled = (teacher - torch.arange(4.)[:, None, None]) / 2
    code, sizes = translator.encoder.trace(teacher)
    back = translator.decoder(code, sizes)
    error = energy = 0.
    for n, y, x in mask.nonzero().tolist():
        error += (scaled[n, :, y, x] - back[n, :, y, x]).square().sum()
        energy += (teacher[n, :, y, x] / 2).square().sum()
    count = mask.sum() * 4
    coarse = nn.functional.adaptive_avg_pool2d(mask.float(), (3, 3)) >= .5
    size = (code.abs() * coarse[:, None]).sum()
    torch.testing.assert_close(terms['reconstruction'], error / count)
    torch.testing.assert_close(terms['sparsity'], .1 * size / count)
    torch.testing.assert_close(translator.relative_error, error / energy)
    assert not translator.relative_error.requires_grad


def test_every_parameter_learns():
    translator = Translator(4, 4)
    nn.init.normal_(translator.decoder.convs[-1].weight)
    terms = translator(torch.randn(2, 4, 5, 6).requires_grad_())
    sum(terms.values()).backward()
    learning = {k for k, p in translator.named_parameters() if p.grad.any()}
    assert learning == {
        f'{part}.convs.{i}.{name}'
        for part in ('encoder', 'decoder')
        for i in range(3)
        for name in ('weight', 'bias')
    }


def test_no_gradient_into_the_teacher():
    teacher = torch.randn(1, 4, 5, 6, requires_grad=True)
    sum(Translator(4)(teacher).values()).backward()
    assert teacher.grad is None


def test_nothing_valid():
    translator = Translator(4)
    mask = torch.zeros(2, 10, 12, dtype=torch.bool)
    terms = translator(torch.randn(2, 4, 5, 6), mask)
    sum(terms.values()).backward()
    assert sum(terms.values()) == 0 and translator.relative_error == 0
    assert not translator.encoder.measured  # a later map will do
    for p in translator.parameters():
        assert p.grad is not None and not p.grad.any()


def test_measures_once_and_only_in_training():
    encoder = (translator := Translator(4).eval()).encoder
    teacher = torch.randn(2, 4, 5, 6) * 3 + torch.arange(4.)[:, None, None]
    mask = torch.rand(2, 5, 6) < .5
    translator(teacher, mask)
    assert not encoder.measured and encoder.std == 1
    translator.train()(teacher, mask)
    standard = encoder.standardize(teacher).movedim(1, -1)[mask]
    torch.testing.assert_close(standard.mean(0), torch.zeros(4))
    torch.testing.assert_close(standard.square().mean(), torch.tensor(1.))
    before = {k: v.clone() for k, v in translator.state_dict().items()}
    translator(5 * teacher)
    torch.testing.assert_close(before, dict(translator.state_dict()))


def test_constant_maps_have_no_spread_to_measure():
    translator = Translator(4)
    sum(translator(torch.full((1, 4, 5, 6), .1)).values()).backward()
    assert not translator.encoder.measured


def test_first_guess_is_the_mean():
    terms = Translator(4)(torch.randn(2, 4, 5, 6) + 3)
    assert terms['reconstruction'].item() == pytest.approx(1)


def test_half_precision_input():
    translator = Translator(4).eval()
    teacher = torch.randn(1, 4, 5, 6).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        terms = translator(teacher)
    want = translator(teacher.float())
    assert torch.equal(terms['reconstruction'], want['reconstruction'])


def test_gradcheck():
    translator = Translator(2, 2, alpha=.1).double()
    nn.init.normal_(translator.decoder.convs[-1].weight)
    teacher = torch.randn(1, 2, 3, 5, dtype=torch.double)
    translator(teacher)
    names, values = zip(*translator.named_parameters())

    def run(*weights):
        terms = torch.func.functional_call(translator,
                                           dict(zip(names,
                                                    weights)), (teacher, ))
        return sum(terms.values())

    assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize('scale', [1e-3, 1., 1e3])
@pytest.mark.parametrize('mean', [0., 2.])
def test_converges_at_the_papers_rate(mean, scale):
    """Smooth maps after a ReLU, of any magnitude: SGD 0.1, momentum 0.9."""
    translator = Translator(32, 2)
    sgd = torch.optim.SGD(translator.parameters(),
                          .1,
                          momentum=.9,
                          weight_decay=1e-4)
    smooth = nn.functional.interpolate(torch.randn(4, 4, 3, 4), (11, 15),
                                       mode='bilinear')
    mixed = nn.functional.conv2d(smooth, torch.randn(32, 4, 1, 1))
    teacher = (mixed + mean).relu() * scale
    values = []
    for _ in range(100):
        sgd.zero_grad()
        value = sum(translator(teacher).values())
        value.backward()
        sgd.step()
        values.append(value.item())
    assert max(values) < 1.1
    assert values[-1] < .6


def test_wrong_input():
    with pytest.raises(ValueError, match='5 channels, the translator 4'):
        Translator(4)(torch.randn(1, 5, 2, 2))
    with pytest.raises(ValueError, match='three numbers'):
        Translator(4, widths=(4, 2))

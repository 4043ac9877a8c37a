"""KALoss: its two terms, its frozen encoder, its errors."""
import pytest
import torch

from seg_kd.losses import AdaptationLoss, AffinityLoss, KALoss, Translator


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def loss():
    return KALoss(3, 6, Translator(6, 2))


def maps(h=6, w=9):
    return torch.randn(2, 3, 3, 5), torch.randn(2, 6, h, w)


def test_terms_are_weighted(loss):
    loss.eval()
    student, teacher = maps()
    mask = torch.rand(2, 24, 36) < .8
    terms = loss(student, teacher, mask)
    code = loss.translator(teacher)
    adaptation = AdaptationLoss()(loss.adapter_feature(student), code, mask)
    affinity = AffinityLoss()(loss.adapter_affinity(student), code, mask)
    torch.testing.assert_close(
        terms, dict(adaptation=50 * adaptation, affinity=affinity))


def test_arguments_reach_the_terms():
    loss = KALoss(3,
                  6,
                  adaptation_weight=2.,
                  affinity_weight=3.,
                  p=2,
                  q=1,
                  affinity_per='position').eval()
    student, teacher = maps()
    terms = loss(student, teacher)
    adaptation = AdaptationLoss(2, 1)(loss.adapter_feature(student), teacher)
    affinity = AffinityLoss('position')(loss.adapter_affinity(student),
                                        teacher)
    torch.testing.assert_close(
        terms, dict(adaptation=2 * adaptation, affinity=3 * affinity))


def test_without_translator_the_teacher_is_the_target():
    loss = KALoss(3, 6)
    assert loss.translator is None
    assert loss.adapter_feature[0].out_channels == 6
    student, teacher = maps()
    sum(loss(student, teacher).values()).backward()


@pytest.mark.parametrize('part', [lambda t: t, lambda t: t.encoder])
def test_translator_is_frozen(part):
    translator = Translator(6, 2)
    loss = KALoss(3, 6, part(translator)).train()
    assert loss.translator is translator.encoder
    assert not loss.translator.training and loss.adapter_feature.training
    parent = torch.nn.ModuleDict(dict(ka=loss)).train()
    assert not parent['ka'].translator.training
    before = {k: v.clone() for k, v in loss.translator.state_dict().items()}
    sum(loss(*maps()).values()).backward()
    assert not any(p.requires_grad for p in loss.translator.parameters())
    torch.testing.assert_close(before, dict(loss.translator.state_dict()))


def test_adapters_are_two(loss):
    assert loss.adapter_feature[0].weight is not loss.adapter_affinity[
        0].weight
    terms = loss(*maps())
    terms['adaptation'].backward()
    assert loss.adapter_feature[0].weight.grad.any()
    assert loss.adapter_affinity[0].weight.grad is None


def test_wrong_channels(loss):
    student, teacher = maps()
    with pytest.raises(ValueError, match='student has 4 channels, not 3'):
        loss(torch.randn(2, 4, 3, 5), teacher)
    with pytest.raises(ValueError, match='teacher has 5 channels, not 6'):
        loss(student, teacher[:, :5])


def test_one_position_cannot_be_normalised(loss):
    student, teacher = torch.randn(1, 3, 1, 1), torch.randn(1, 6, 2, 2)
    with pytest.raises(ValueError, match='larger crop or batch'):
        loss(student, teacher)
    assert sum(loss.eval()(student, teacher).values()).isfinite()

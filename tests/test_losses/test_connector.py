"""Connectors: their layers, and the losses that have one."""
import pytest
import torch
from torch import nn

from seg_kd.losses import ABLoss, CWDLoss, FitNetLoss, ICKDLoss, PADLoss
from seg_kd.losses.connector import connector_layers, make_connector

LAYERS = dict(linear=[nn.Conv2d],
              bn=[nn.Conv2d, nn.BatchNorm2d],
              mlp=[nn.Conv2d, nn.ReLU, nn.Conv2d])
PARTS = {
    ABLoss: lambda loss: loss.connectors[0],
    CWDLoss: lambda loss: loss.connector,
    FitNetLoss: lambda loss: loss.regressor,
    ICKDLoss: lambda loss: loss.embed,
    PADLoss: lambda loss: loss.regressor
}


@pytest.mark.parametrize('kind, expected', LAYERS.items())
def test_layers(kind, expected):
    layers = connector_layers(kind, 3, 5, kernel_size=3, bias=True)
    assert [type(layer) for layer in layers] == expected
    found = layers(torch.randn(2, 3, 4, 7))
    assert found.shape == (2, 5, 4, 7)


@pytest.mark.parametrize('kind, whole', [('linear', nn.Identity),
                                         ('bn', nn.Sequential),
                                         ('mlp', nn.Sequential)])
def test_equal_channels(kind, whole):
    assert type(make_connector(kind, 5, 5, bias=False)) is whole


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('loss_cls', PARTS, ids=lambda cls: cls.__name__)
def test_each_loss_trains_its_connector(kind, loss_cls):
    torch.manual_seed(0)
    loss = loss_cls(3, 5, connector=kind)
    part = PARTS[loss_cls](loss)
    layers = list(part) if isinstance(part, nn.Sequential) else [part]
    assert [type(layer) for layer in layers] == LAYERS[kind]
    student, teacher = torch.randn(2, 3, 4, 7), torch.randn(2, 5, 5, 9)
    student.requires_grad_()
    loss(student, teacher, torch.rand(2, 8, 14) < .7).backward()
    assert student.grad.abs().sum() > 0
    for parameter in part.parameters():
        assert parameter.grad.isfinite().all()
    assert layers[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize('loss_cls', PARTS, ids=lambda cls: cls.__name__)
def test_no_such_connector(loss_cls):
    with pytest.raises(ValueError, match="connector must be .*, not 'mpl'"):
        loss_cls(3, 5, connector='mpl')

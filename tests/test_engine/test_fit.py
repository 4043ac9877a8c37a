"""``load_from``: how much of a network a checkpoint fills."""
import logging

import pytest
import torch
from torch import nn

from seg_kd.engine.hooks import check_fit, parts_of
from seg_kd.errors import UserError


@pytest.fixture
def model():
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    return nn.ModuleDict(
        dict(backbone=block,
             head=nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 5, 1))))


@pytest.fixture
def said(caplog):
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING
    ]
    logger.removeHandler(caplog.handler)


def test_all_of_it(model, said):
    state = model.state_dict()
    check_fit(state, {f'module.{k}': v for k, v in state.items()}, 'x.pth')
    del state['backbone.1.num_batches_tracked']
    state.update({'distill.a': torch.ones(1), 'more': torch.ones(2)})
    check_fit(model.state_dict(), state, 'x.pth')
    check_fit({}, state, 'x.pth')  # a stage without a student
    assert said() == []


def test_a_part_of_it(model, said):
    state = model.state_dict()
    state['head.1.weight'] = torch.ones(19, 2, 1, 1)
    state['head.1.bias'] = torch.ones(19)
    check_fit(model.state_dict(), state, 'x.pth')
    del state['head.0.weight'], state['head.0.bias'], state['backbone.0.bias']
    check_fit(model.state_dict(), state, 'x.pth')
    one, other = said()
    assert 'load_from x.pth: 8 of 10 tensors of the model fit; not those ' \
        'of head.1, which' in one
    assert '5 of 10 tensors' in other and 'backbone.0.bias, head,' in other


def test_none_of_it(model):
    state = {f'net.{k}': v for k, v in model.state_dict().items()}
    for found in (state, {}, {
            k: v[..., None]
            for k, v in model.state_dict().items()
    }):
        with pytest.raises(UserError,
                           match='x.pth: none of its .* fits the '
                           'model, which begins with backbone.0.weight'):
            check_fit(model.state_dict(), found, 'x.pth')


def test_numbers_that_are_none(model):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state['head.0.bias'][1] = torch.nan
    with pytest.raises(UserError, match='1 weights are NaN.* head.0.bias'):
        check_fit(model.state_dict(), state, 'x.pth')


def test_the_largest_parts():
    names = ['a.b.c', 'a.b.d', 'a.bb', 'e.f', 'e.g.h', 'i']
    assert parts_of({'a.b.c', 'a.b.d', 'i'}, names) == ['a.b', 'i']
    assert parts_of(set(names), names) == ['a', 'e', 'i']
    assert parts_of({'a.b.c', 'e.f', 'i'}, names, 1) == ['a.b.c', '2 more']

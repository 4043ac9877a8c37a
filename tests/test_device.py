"""On a GPU no loss makes the host wait, nor launches many kernels."""
import json

import pytest
from processes import printed_by

DRAWN = {'RKDLoss'}  # its triplets are others on a GPU


@pytest.fixture(scope='module')
def measured():
    found = json.loads(printed_by('stand_in_gpu.py', 600))
    assert len(found) > 45
    return found


def test_no_step_waits(measured):
    waits = {
        name: wait
        for name, sizes in measured.items()
        for size in sizes if (wait := size['waits'])
    }
    assert not waits


def test_values_and_gradients_are_those_of_the_cpu(measured):
    gaps = {
        name: few['gap']
        for name, (few, _) in measured.items() if name not in DRAWN
    }
    assert max(gaps.values()) > 0  # another path was taken somewhere
    assert {name: gap for name, gap in gaps.items() if not gap < 2e-6} == {}


def test_more_images_are_not_more_kernels(measured):
    # to draw instances, where there are more than are wanted, takes some
    more = {
        name: (few['kernels'], many['kernels'])
        for name, (few, many) in measured.items()
        if many['kernels'] > few['kernels'] + 10
    }
    assert not more


def test_kernels_are_few(measured):
    """Forward and backward, of one loss, or of all three levels."""
    most = {
        'KALoss': 250,  # two terms, two adapters, the translator
        'KALoss in float32': 250,
    }
    found = {
        name: max(size['kernels'] for size in sizes)
        for name, sizes in measured.items()
    }
    assert {
        name: count
        for name, count in found.items() if count > most.get(name, 150)
    } == {}

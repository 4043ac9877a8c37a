"""What a GPU does in place of MMSegmentation's own: the same values."""
import copy

import pytest
import torch
from conftest import build_runner, preprocessor
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.losses import accuracy as mmsegs_accuracy
from mmseg.structures import SegDataSample

from seg_kd.engine import on_gpu
from seg_kd.engine.on_gpu import (BatchPreProcessor, CrossEntropy, is_batch,
                                  narrowest, ready, share_right)


def batch(dtype=torch.long, high=256, bare=False, size=(40, 56)):
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
        for _ in range(3)
    ]
    samples = [
        SegDataSample(
            metainfo=dict(img_path=f'{i}.png'),
            gt_sem_seg=PixelData(
                data=torch.randint(high, (
                    1, *size), generator=generator).to(dtype)))
        for i in range(3)
    ]
    if bare:
        del samples[1].gt_sem_seg
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('data', [
    batch(),
    batch(torch.uint8),
    batch(high=1000),
    batch(bare=True),
    batch(size=(64, 96))
],
                         ids=['int64', 'uint8', 'many', 'bare', 'whole'])
@pytest.mark.parametrize('changes',
                         [{},
                          dict(size=None, size_divisor=32, pad_val=2),
                          dict(bgr_to_rgb=False, mean=None, std=None)])
def test_a_batch_is_that_of_mmseg(data, changes):
    arguments = {**preprocessor(), **changes}
    arguments.pop('type')
    wanted = SegDataPreProcessor(**arguments)(copy.deepcopy(data), True)
    ours = BatchPreProcessor(**arguments)
    before = copy.deepcopy(data)
    assert is_batch(data)
    for found in (ours.batch(data), ours(data, True)):
        assert torch.equal(found['inputs'], wanted['inputs'])
        for sample, other in zip(found['data_samples'],
                                 wanted['data_samples']):
            assert sample.keys() == other.keys()
            assert sample.metainfo == other.metainfo
            if 'gt_sem_seg' in other:
                label = sample.gt_sem_seg.data
                assert label.dtype == torch.long
                assert torch.equal(label, other.gt_sem_seg.data.long())
    for sample, other in zip(data['data_samples'], before['data_samples']):
        assert sample.metainfo == other.metainfo  # the loader's is its own


def test_what_is_no_batch_goes_mmsegs_way():
    data = batch()
    assert not is_batch(dict(data, data_samples=None))
    assert not is_batch(dict(data, inputs=[x[:, :8] for x in data['inputs']]))
    mixed = batch()
    mixed['inputs'][0] = mixed['inputs'][0].float()
    assert not is_batch(mixed)
    more = batch()
    more['data_samples'][0].gt_depth_map = PixelData(data=torch.zeros(1, 2, 2))
    assert not is_batch(more)


def test_labels_travel_in_eight_bits_where_they_fit():
    fit = torch.tensor([[0, 255]])
    assert narrowest([fit, fit]) == torch.uint8
    assert narrowest([fit, fit - 1]) == torch.long
    assert narrowest([fit, fit + 1]) == torch.long
    assert narrowest([fit.float()]) == torch.float


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('form', [
    dict(avg_non_ignore=True),
    dict(avg_non_ignore=False),
    dict(class_weight=[.5, 2., 1., .25]),
    dict(avg_non_ignore=True, reduction='sum'),
    dict(avg_non_ignore=True, loss_weight=.4)
])
def test_the_cross_entropy_is_mmsegs(form):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6, 8, requires_grad=True)
    labels = torch.randint(4, (2, 6, 8))
    labels[0, :3] = 255
    loss = CrossEntropyLoss(**form)
    found = []
    for _ in range(2):
        value = loss(logits, labels, ignore_index=255)
        found += [value, *torch.autograd.grad(value, logits)]
        loss.cls_criterion = CrossEntropy(loss.class_weight)
        loss.class_weight = None
    torch.testing.assert_close(found[:2], found[2:], rtol=1e-6, atol=0)


def test_the_accuracy_is_mmsegs():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 6, 8), torch.randint(4, (2, 6, 8))
    labels[0, :3] = 255
    for target, ignored in ((labels, 255), (labels, 2),
                            (torch.full_like(labels, 255), 255)):
        torch.testing.assert_close(
            share_right(logits, target, ignored),
            mmsegs_accuracy(logits, target, ignore_index=ignored))


def test_on_a_cpu_only_the_pre_processing_has_another_class(
        plain_config, monkeypatch):
    model = build_runner(plain_config).model
    assert type(model.data_preprocessor) is BatchPreProcessor
    criterion = model.decode_head.loss_decode.cls_criterion
    assert not isinstance(criterion, CrossEntropy)
    monkeypatch.setattr(on_gpu.decode_head, 'accuracy', mmsegs_accuracy)
    ready(model, 'cuda:0')
    assert isinstance(model.decode_head.loss_decode.cls_criterion,
                      CrossEntropy)
    assert on_gpu.decode_head.accuracy is on_gpu.accuracy
    logits, labels = torch.randn(1, 4, 2, 2), torch.randint(4, (1, 2, 2))
    assert torch.equal(on_gpu.accuracy(logits, labels, ignore_index=255),
                       mmsegs_accuracy(logits, labels, ignore_index=255))

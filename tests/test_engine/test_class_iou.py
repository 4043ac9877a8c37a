"""The IoU of each class beside the means."""
import numpy as np
import pytest
import torch

from seg_kd.engine.class_iou import ClassIoUMetric


def test_by_hand():
    """Of four pixels one is ignored; nobody speaks of the last class."""
    metric = ClassIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=('sky', 'road', 'car'))
    seen, truth = torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 255]])
    metric.process(
        {}, [dict(pred_sem_seg=dict(data=seen), gt_sem_seg=dict(data=truth))])
    found = metric.evaluate(size=1)
    assert found['IoU.sky'] == found['IoU.road'] == pytest.approx(50.)
    assert 'IoU.car' not in found
    assert np.isclose(found['mIoU'], 50.)

"""Runs of MMEngine: the runner, its own hooks, stages, evaluation."""
from seg_kd.engine.checkpoints import StudentCopyHook, ValidationHook
from seg_kd.engine.class_iou import ClassIoUMetric
from seg_kd.engine.hooks import DataShareHook, LoadHook, SeedHook
from seg_kd.engine.loss_guard import LossGuardHook
from seg_kd.engine.optim import BFloat16OptimWrapper
from seg_kd.engine.pictures import PicturesHook
from seg_kd.engine.progress import ProgressHook
from seg_kd.engine.runner import DistillRunner

__all__ = [
    'BFloat16OptimWrapper', 'ClassIoUMetric', 'DataShareHook', 'DistillRunner',
    'ValidationHook', 'LoadHook', 'LossGuardHook', 'PicturesHook',
    'ProgressHook', 'SeedHook', 'StudentCopyHook'
]

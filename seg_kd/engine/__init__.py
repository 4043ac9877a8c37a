"""Runs of MMEngine: the runner, its own hooks, stages, evaluation."""
from seg_kd.engine.class_iou import ClassIoUMetric
from seg_kd.engine.hooks import (DataShareHook, FiniteLossHook, LoadHook,
                                 SeedHook)
from seg_kd.engine.optim import BFloat16OptimWrapper
from seg_kd.engine.runner import DistillRunner

__all__ = [
    'BFloat16OptimWrapper', 'ClassIoUMetric', 'DataShareHook', 'DistillRunner',
    'FiniteLossHook', 'LoadHook', 'SeedHook'
]

"""Runs of MMEngine: the runner, its own hooks, stages, evaluation."""
from seg_kd.engine.class_iou import ClassIoUMetric
from seg_kd.engine.data_share import DataShareHook
from seg_kd.engine.finite import FiniteLossHook
from seg_kd.engine.load import LoadHook
from seg_kd.engine.optim import BFloat16OptimWrapper
from seg_kd.engine.runner import DistillRunner
from seg_kd.engine.seed import SeedHook

__all__ = [
    'BFloat16OptimWrapper', 'ClassIoUMetric', 'DataShareHook', 'DistillRunner',
    'FiniteLossHook', 'LoadHook', 'SeedHook'
]

"""What the losses, and a whole training step, cost on this machine."""
from .losses import EXTREMES, WORKS, bench_losses, methods
from .step import bench_step, build_runner, step_works
from .timing import Rows, in_turn, peak_mib, summary

__all__ = [
    'EXTREMES', 'Rows', 'WORKS', 'bench_losses', 'bench_step', 'build_runner',
    'in_turn', 'methods', 'peak_mib', 'step_works', 'summary'
]

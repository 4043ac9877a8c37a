"""What losses, a training step, and the networks cost on this machine."""
from .build import Source, build_runner
from .ddp import bench_ddp
from .inference import bench_inference
from .losses import WORKS, bench_losses, methods
from .scale import bench_scale
from .show import machine, tables
from .step import bench_step
from .timing import (Clock, Found, Rows, count_processor_time, in_turn,
                     peak_mib, summary)

__all__ = [
    'Clock', 'Found', 'Rows', 'Source', 'WORKS', 'bench_ddp',
    'bench_inference', 'bench_losses', 'bench_scale', 'bench_step',
    'build_runner', 'count_processor_time', 'in_turn', 'machine', 'methods',
    'peak_mib', 'summary', 'tables'
]

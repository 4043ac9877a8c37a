"""What losses, a training step, and the networks cost on this machine."""
from seg_kd.benchmark.build import Source, build_runner
from seg_kd.benchmark.ddp import bench_ddp
from seg_kd.benchmark.inference import bench_inference
from seg_kd.benchmark.losses import WORKS, bench_losses, methods
from seg_kd.benchmark.scale import bench_scale
from seg_kd.benchmark.show import machine, tables
from seg_kd.benchmark.step import bench_step
from seg_kd.benchmark.timing import (Clock, Found, Rows, count_processor_time,
                                     in_turn, peak_mib, summary)

__all__ = [
    'Clock', 'Found', 'Rows', 'Source', 'WORKS', 'bench_ddp',
    'bench_inference', 'bench_losses', 'bench_scale', 'bench_step',
    'build_runner', 'count_processor_time', 'in_turn', 'machine', 'methods',
    'peak_mib', 'summary', 'tables'
]

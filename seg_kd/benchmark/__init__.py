"""What a training step and the networks cost on this machine."""
from seg_kd.benchmark.build import Source, build_runner
from seg_kd.benchmark.ddp import bench_ddp
from seg_kd.benchmark.inference import bench_inference
from seg_kd.benchmark.show import machine, tables
from seg_kd.benchmark.step import bench_step
from seg_kd.benchmark.timing import (Clock, Found, Rows, Work, announced,
                                     count_processor_time, in_turn, peak_mib,
                                     summary, times_sign)

__all__ = [
    'Clock', 'Found', 'Rows', 'Source', 'Work', 'announced', 'bench_ddp',
    'bench_inference', 'bench_step', 'build_runner', 'count_processor_time',
    'in_turn', 'machine', 'peak_mib', 'summary', 'tables', 'times_sign'
]

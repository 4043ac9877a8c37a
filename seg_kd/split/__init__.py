"""A network in two halves: cut, trained (HND), and exported."""
from seg_kd.split.head import BottleneckHead
from seg_kd.split.segmentor import SplitSegmentor

__all__ = ['BottleneckHead', 'SplitSegmentor']

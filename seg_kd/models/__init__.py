"""Networks that MMSegmentation lacks."""

from .bottleneck_head import BottleneckHead
from .efficientnet_lite import EfficientNetLite
from .split_segmentor import SplitSegmentor

__all__ = ['BottleneckHead', 'EfficientNetLite', 'SplitSegmentor']

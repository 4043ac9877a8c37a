"""Networks that MMSegmentation lacks."""
from seg_kd.models.efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']

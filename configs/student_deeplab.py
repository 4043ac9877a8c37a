# MobileNetV2 at stride 16 alone, Cityscapes: what KA is compared with.
_base_ = '_base_/experiments/cityscapes.py'

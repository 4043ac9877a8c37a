# MobileNetV2 at stride 16 alone, VOC 2012 + SBD: what KA is compared with.
_base_ = '_base_/experiments/voc.py'

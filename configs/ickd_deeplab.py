# ICKD in a grid of 4 x 4 cells, DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/ickd.py']

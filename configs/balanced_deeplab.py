# The balanced map loss, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16,
# Cityscapes.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/balanced.py']

# AB (activation boundaries), DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride
# 16, Cityscapes: the backbone learns the boundaries, then CE and KD.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/ab.py']

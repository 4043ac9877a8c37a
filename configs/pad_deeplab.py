# PAD, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes: warmed
# up with the plain squared error for a tenth of the iterations, then with the
# variance of each activation.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/pad.py']

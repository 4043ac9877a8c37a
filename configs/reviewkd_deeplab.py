# ReviewKD on all four levels, DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes. The middle width is that of the authors' port to
# segmentation; that of CIFAR, 320, has five times the parameters and costs.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/reviewkd.py']

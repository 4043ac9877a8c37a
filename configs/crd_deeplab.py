# CRD between pixels of other classes, DeepLabV3+ on ResNet-101 -> MobileNetV2
# at stride 16, Cityscapes. With instances='image' it is the paper's form.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/crd.py']

# KA, PSPNet on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes.
# The student alone: student_deeplab.py.
_base_ = ['_base_/experiments/cityscapes_pspnet.py', '_base_/methods/ka.py']

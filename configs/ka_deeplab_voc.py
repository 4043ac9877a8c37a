# KA, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, VOC 2012 + SBD.
# The student alone: student_deeplab_voc.py.
_base_ = ['_base_/experiments/voc.py', '_base_/methods/ka_voc.py']

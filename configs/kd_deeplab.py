# KD on logits, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16,
# Cityscapes. The student alone: student_deeplab.py.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/kd.py']

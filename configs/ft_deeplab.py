# FT (factor transfer), DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16,
# Cityscapes: the paraphraser alone, then the student.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/ft.py']

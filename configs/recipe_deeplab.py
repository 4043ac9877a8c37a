# The recipe, DeepLabV3+ on ResNet-101 -> MobileNetV2, Cityscapes.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/recipe.py']

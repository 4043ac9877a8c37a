# FSP, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes: the
# backbone learns the flow between the teacher's layers, then the task alone.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/fsp.py']

# FitNets, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes,
# in the paper's two stages: first the student up to the hint learns the
# teacher's middle map and nothing else, then all of it with KD.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/methods/fitnet.py']

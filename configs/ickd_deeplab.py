# ICKD in a grid of 4 x 4 cells, DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes.
_base_ = ['_base_/experiments/cityscapes.py']

custom_hooks = [
    {{_base_.teacher}},
    dict(type='ICKDHook',
         student='backbone[3]',
         teacher='decode_head.bottleneck',
         grid=(4, 4),
         weight=0.51)  # half the task's pull: docs/methods
]

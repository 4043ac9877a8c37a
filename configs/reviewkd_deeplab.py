# ReviewKD on all four levels, DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes. The middle width is that of the authors' port to
# segmentation; that of CIFAR, 320, has five times the parameters and costs.
_base_ = ['_base_/experiments/cityscapes.py']

levels = [f'backbone[{i}]' for i in range(4)]  # shallow to deep
custom_hooks = [
    {{_base_.teacher}},
    dict(type='ReviewKDHook',
         student=levels,
         teacher=levels,
         mid_channels=64,
         weight=0.094)  # half the task's pull: docs/methods
]

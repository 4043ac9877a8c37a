# CCKD with the Gaussian kernel between 4096 pixels, DeepLabV3+ on ResNet-101
# -> MobileNetV2 at stride 16, Cityscapes. The student alone:
# student_deeplab.py.
_base_ = ['_base_/experiments/cityscapes.py']

custom_hooks = [
    {{_base_.teacher}},
    dict(type='CCKDHook',
         student='backbone[3]',
         teacher='decode_head.bottleneck',
         weight=12.)  # half the task's pull: docs/methods
]

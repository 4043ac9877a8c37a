# Logit standardization, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16,
# Cityscapes. The student alone: student_deeplab.py.
_base_ = '_base_/experiments/cityscapes.py'

custom_hooks = [
    {{_base_.teacher}},
    # weight: see docs/methods/logit_std.md
    dict(type='LogitStdHook', weight=9., temperature=2.)
]

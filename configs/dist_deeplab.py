# DIST, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes. The
# student alone: student_deeplab.py.
_base_ = '_base_/experiments/cityscapes.py'

custom_hooks = [
    {{_base_.teacher}},
    # weight: half the pull of the task on CamVid, docs/methods/README.md
    dict(type='DISTHook', weight=0.25)
]

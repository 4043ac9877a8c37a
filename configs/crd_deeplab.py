# CRD between pixels of other classes, DeepLabV3+ on ResNet-101 -> MobileNetV2
# at stride 16, Cityscapes. With instances='image' it is the paper's form.
_base_ = ['_base_/experiments/cityscapes.py']

custom_hooks = [
    {{_base_.teacher}},
    dict(type='CRDHook',
         student='backbone[3]',
         teacher='decode_head.bottleneck',
         weight=0.03)  # half the task's pull: docs/methods
]

# VID, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes.
_base_ = '_base_/experiments/cityscapes.py'

# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = [{{_base_.teacher}},
                dict(type='VIDHook',
                     student='backbone[3]',
                     teacher='decode_head.bottleneck',
                     weight=28.)]

# AT, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes.
_base_ = '_base_/experiments/cityscapes.py'

# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = [{{_base_.teacher}},
                dict(type='ATHook',
                     student=['backbone[1]', 'backbone[2]', 'backbone[3]'],
                     teacher=['backbone[1]', 'backbone[2]', 'backbone[3]'],
                     weight=0.48)]

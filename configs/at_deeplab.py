# AT, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes.
_base_ = '_base_/experiments/cityscapes.py'

# weight: see docs/methods/at.md
custom_hooks = [{{_base_.teacher}},
                dict(type='ATHook',
                     student=['backbone[1]', 'backbone[2]', 'backbone[3]'],
                     teacher=['backbone[1]', 'backbone[2]', 'backbone[3]'],
                     weight=1.)]

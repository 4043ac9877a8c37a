# The projector's recipe (SRD), DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes. Other projectors: projector='mlp', norm='none', ...
_base_ = '_base_/experiments/cityscapes.py'

# weight: see docs/methods/srd.md
custom_hooks = [{{_base_.teacher}},
                dict(type='SRDHook',
                     student='backbone[3]',
                     teacher='decode_head.bottleneck',
                     projector='linear',
                     weight=2.)]

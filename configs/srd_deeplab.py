# The projector's recipe (SRD), DeepLabV3+ on ResNet-101 -> MobileNetV2 at
# stride 16, Cityscapes. Other projectors: projector='mlp', norm='none', ...
_base_ = '_base_/experiments/cityscapes.py'

# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = [{{_base_.teacher}},
                dict(type='SRDHook',
                     student='backbone[3]',
                     teacher='decode_head.bottleneck',
                     projector='linear',
                     weight=0.19)]

# AB (activation boundaries), DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride
# 16, Cityscapes: the backbone learns the boundaries, then CE and KD.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/stages/init.py']

custom_hooks = [
    {{_base_.teacher}},
    dict(
        type='ABHook',
        # MobileNetV2's blocks end without a ReLU
        student=['backbone[0]', 'backbone[1]', 'backbone[2]', 'backbone[3]'],
        # only the sign counts: behind a ReLU is as good as before it
        teacher=[
            'backbone[0]', 'backbone[1]', 'backbone[2]',
            'decode_head.bottleneck.activate:input'
        ],
        # weight: see docs/methods/ab.md
        weight=1.2)
]
# the authors' second stage: KD at temperature 3
kd = dict(type='KDHook', temperature=3., weight=0.26)
stages = [{{_base_.init}},
          dict(name='task', load_from='stage:init', custom_hooks={'1': kd})]

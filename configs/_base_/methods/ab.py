# AB (activation boundaries): the backbone learns the boundaries, then CE and
# the authors' second stage, KD at temperature 3.
_base_ = '../stages/features.py'

custom_hooks = dict(ABHook=dict(
    # MobileNetV2's blocks end without a ReLU
    student=['backbone[0]', 'backbone[1]', 'backbone[2]', 'backbone[3]'],
    # only the sign counts: behind a ReLU is as good as before it
    teacher=[
        'backbone[0]', 'backbone[1]', 'backbone[2]',
        'decode_head.bottleneck.activate:input'
    ],
    # weight: see docs/methods/ab.md
    weight=1.2))
stages = dict(task=dict(custom_hooks=dict(
    ABHook=dict(type='KDHook', temperature=3., weight=0.26))))

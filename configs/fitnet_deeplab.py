# FitNets, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes,
# in the paper's two stages: first the student up to the hint learns the
# teacher's middle map and nothing else, then all of it with KD.
_base_ = '_base_/experiments/cityscapes.py'

# weight: see docs/methods/fitnet.md
custom_hooks = [{{_base_.teacher}},
                dict(type='KDHook', weight=0.27, temperature=4.)]
still = dict(lr_mult=0., decay_mult=0.)
stages = [
    dict(
        name='hint',
        custom_hooks={
            '1':
            dict(type='FitNetHook',
                 student='backbone[2]',
                 teacher='backbone[2]',
                 weight=.28)
        },
        # The task is off; what lies above the hint stays as it was.
        model=dict(decode_head=dict(loss_decode=dict(loss_weight=0.))),
        optim_wrapper=dict(paramwise_cfg=dict(
            custom_keys={
                'backbone.layer6': still,
                'backbone.layer7': still,
                'decode_head': still
            })),
        train_cfg=dict(max_iters=.25),  # of the second stage's
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None),
    dict(name='kd', load_from='stage:hint')
]

# PAD: warmed up with the plain squared error for a tenth of the iterations,
# then with the variance of each activation.
_base_ = '../stages/alone.py'

custom_hooks = dict(PADHook=dict(
    student='backbone[3]',
    teacher='decode_head.bottleneck',
    # weight: half the pull of the task on CamVid, docs/methods/README.md
    weight=1.))
stages = dict(warm=dict(custom_hooks=dict(PADHook=dict(warm=True)),
                        train_cfg=dict(max_iters=0.1),
                        param_scheduler=None,
                        **_base_.alone),
              distill=dict(load_from='stage:warm'))

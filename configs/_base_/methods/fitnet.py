# FitNets in the paper's two stages: first the student up to the hint learns
# the teacher's middle map and nothing else, then all of it with KD.
_base_ = '../stages/alone.py'

# weight: see docs/methods/fitnet.md
custom_hooks = dict(KDHook=dict(weight=0.27, temperature=4.))
still = dict(lr_mult=0., decay_mult=0.)
stages = dict(
    hint=dict(
        custom_hooks=dict(KDHook=dict(type='FitNetHook',
                                      student='backbone[2]',
                                      teacher='backbone[2]',
                                      weight=.28)),
        # What lies above the hint stays as it was.
        task=False,
        optim_wrapper=dict(paramwise_cfg=dict(
            custom_keys={
                'backbone.layer6': still,
                'backbone.layer7': still,
                'decode_head': still
            })),
        train_cfg=dict(max_iters=.25),  # of the second stage's
        **_base_.alone),
    kd=dict(load_from='stage:hint'))

# FitNets in the paper's two stages: first the student up to the hint learns
# the teacher's middle map and nothing else, then all of it with KD.
_base_ = '../stages/features.py'

# weight: see docs/methods/fitnet.md
custom_hooks = dict(
    FitNetHook=dict(student='backbone[2]', teacher='backbone[2]', weight=.28))
stages = dict(
    features=dict(train_cfg=dict(max_iters=.25)),
    task=dict(custom_hooks=dict(
        FitNetHook=dict(type='KDHook', weight=0.27, temperature=4.))))

# CamVid on a CPU: AdamW 1e-3, poly 0.9, the same for teacher and students.
_base_ = '../default_runtime.py'

max_iters = 3000
train_cfg = dict(type='IterBasedTrainLoop',
                 max_iters=max_iters,
                 val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    # The layers that a distillation brings, if there are any.
    paramwise_cfg=dict(custom_keys={'distill': dict(lr_mult=1.)}))
param_scheduler = [
    dict(type='PolyLR',
         power=0.9,
         eta_min=0.,
         begin=0,
         end=max_iters,
         by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=1000))
channels_last = True  # a quarter faster on a CPU

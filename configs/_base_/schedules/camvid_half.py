# CamVid on a CPU: AdamW 1e-3, poly 0.9, the same for teacher and students.
_base_ = '../default_runtime.py'

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
param_scheduler = [dict(end=3000, **_base_.poly)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
channels_last = True  # a quarter faster on a CPU

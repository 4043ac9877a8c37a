# The demo on a CPU: as CamVid's, shorter, for batches of 4.
_base_ = './camvid_half.py'

max_iters = 500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='PolyLR',
         power=0.9,
         eta_min=0.,
         begin=0,
         end=max_iters,
         by_epoch=False)
]
default_hooks = dict(logger=dict(interval=20),
                     checkpoint=dict(interval=max_iters // 2))

# The demo on a CPU: as CamVid's, shorter, for batches of 4.
_base_ = './camvid_half.py'

param_scheduler = [dict(end=500, **_base_.poly)]
train_cfg = dict(max_iters=500, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250))

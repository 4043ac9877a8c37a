# The KA paper on VOC: as on Cityscapes, 30k iterations of 16 images.
_base_ = './sgd_90k.py'

param_scheduler = [dict(end=30000, **_base_.poly)]
train_cfg = dict(max_iters=30000, val_interval=3000)
default_hooks = dict(checkpoint=dict(interval=3000))

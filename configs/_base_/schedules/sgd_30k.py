# The KA paper on VOC: as on Cityscapes, 30k iterations of 16 images.
_base_ = './sgd_90k.py'

param_scheduler = [
    dict(type='PolyLR',
         power=0.9,
         eta_min=0.,
         begin=0,
         end=30000,
         by_epoch=False)
]
train_cfg = dict(max_iters=30000, val_interval=3000)
default_hooks = dict(checkpoint=dict(interval=3000))

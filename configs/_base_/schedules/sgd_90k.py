# The KA paper on Cityscapes: SGD 0.007, poly 0.9, 90k iterations of 16 images.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=4e-5),
    # The layers that a distillation brings, if there are any.
    paramwise_cfg=dict(custom_keys={'distill': dict(lr_mult=1.)}))
param_scheduler = [
    dict(type='PolyLR',
         power=0.9,
         eta_min=0.,
         begin=0,
         end=90000,
         by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=9000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=9000))

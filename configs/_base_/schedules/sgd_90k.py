# The KA paper on Cityscapes: SGD 0.007, poly 0.9, 90k iterations of 16 images.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.007, momentum=0.9, weight_decay=4e-5))
param_scheduler = [dict(end=90000, **_base_.poly)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=9000)
default_hooks = dict(checkpoint=dict(interval=9000))

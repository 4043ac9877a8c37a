# The embedded street scenes with augmentation that a cache of the teacher's
# maps can follow exactly: flips, and crops whose corners lie on a grid of 16
# pixels. Of Cityscapes' layout, train_extra has images without labels.
_base_ = './synthetic.py'

crop_size = (96, 192)  # height, width
data_preprocessor = dict(size=crop_size)
train_pipeline = [
    dict(type='Cached', transforms=_base_.checked),
    dict(type='Albumentations',
         transforms=[_base_.jitter[0],
                     dict(stride=16, **_base_.crop)]), _base_.augment[-1]
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# CamVid at half resolution, 192x256, with augmentation that a cache of the
# teacher's maps can follow exactly: flips, and crops whose corners lie on a
# grid of 16 pixels. No scaling, no colours: faster, and less augmentation.
_base_ = './camvid_half.py'

half = (256, 192)  # width, height
resize = dict(type='Resize', scale=half)
train_pipeline = [
    dict(type='Cached', transforms=[*_base_.checked, resize]),
    dict(type='Albumentations',
         transforms=[_base_.jitter[0],
                     dict(stride=16, **_base_.crop)]), _base_.augment[-1]
]
test_pipeline = [
    _base_.load[0], resize, _base_.load[1], *_base_.check_and_pack
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

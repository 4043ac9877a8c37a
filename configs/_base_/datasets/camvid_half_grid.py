# CamVid at half resolution, 192x256, with augmentation that a cache of the
# teacher's maps can follow exactly: flips, and crops whose corners lie on a
# grid of 16 pixels. No scaling, no colours: faster, and less augmentation.
_base_ = './camvid_half.py'

half = (256, 192)  # width, height
train_pipeline = [
    dict(type='Cached',
         transforms=[
             dict(type='LoadImageFromFile'),
             dict(type='LoadAnnotations'),
             dict(type='CheckLabels', num_classes={{_base_.num_classes}}),
             dict(type='Resize', scale=half)
         ]),
    dict(type='Albumentations',
         transforms=[
             dict(type='HorizontalFlip', p=0.5),
             dict(type='CropWithClassCap',
                  height=160,
                  width=160,
                  max_ratio=0.75,
                  stride=16)
         ]),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=half),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes={{_base_.num_classes}}),
    dict(type='PackSegInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

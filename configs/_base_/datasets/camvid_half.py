# CamVid at half resolution, 180x240, for a CPU. Labels stay whole at test
# time: predictions are resized to them.
_base_ = './camvid.py'

half = (240, 180)  # width, height
crop_size = (160, 160)  # height, width
data_preprocessor = dict(size=crop_size)
train_pipeline = [
    dict(  # 60 MiB in each loader worker
        type='Cached',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='CheckLabels', num_classes={{_base_.num_classes}}),
            dict(type='Resize', scale=half)
        ]),
    dict(
        type='Albumentations',
        transforms=[
            dict(
                type='RandomScale',
                scale_limit=(-0.25, 1.),  # factors 0.75 to 2
                area_for_downscale='image',
                p=1.),
            dict(type='CropWithClassCap',
                 height=crop_size[0],
                 width=crop_size[1],
                 max_ratio=0.75),
            dict(type='HorizontalFlip', p=0.5),
            dict(type='ColorJitter',
                 brightness=(0.875, 1.125),
                 contrast=(0.5, 1.5),
                 saturation=(0.5, 1.5),
                 hue=(-0.05, 0.05),
                 p=0.8)
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
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

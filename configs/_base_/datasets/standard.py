# What the data sets share. Each says where its files are, its `num_classes`
# and its `crop_size`; 'config:NAME' stands for what the whole config says of
# NAME. Images are evaluated at their own size.
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
checked = [*load, dict(type='CheckLabels', num_classes='config:num_classes')]
scale = dict(
    type='RandomScale',
    scale_limit=(-0.5, 1.),  # factors 0.5 to 2
    area_for_downscale='image',
    p=1.)
crop = dict(type='CropWithClassCap',
            height='config:crop_size.0',
            width='config:crop_size.1',
            max_ratio=0.75)
jitter = [
    dict(type='HorizontalFlip', p=0.5),
    dict(type='ColorJitter',
         brightness=(0.875, 1.125),
         contrast=(0.5, 1.5),
         saturation=(0.5, 1.5),
         hue=(-0.05, 0.05),
         p=0.8)
]
augment = [
    dict(type='Albumentations', transforms=[scale, crop, *jitter]),
    dict(type='PackSegInputs')
]
train_pipeline = [*checked, *augment]
# Here CheckLabels takes the number of classes from the data set.
check_and_pack = [dict(type='CheckLabels'), dict(type='PackSegInputs')]
test_pipeline = [*load, *check_and_pack]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug',
         transforms=[[
             dict(type='Resize', scale_factor=r, keep_ratio=True)
             for r in (0.5, 0.75, 1., 1.25, 1.5, 1.75)
         ],
                     [
                         dict(type='RandomFlip',
                              prob=p,
                              direction='horizontal') for p in (0., 1.)
                     ], *([t] for t in (load[1], *check_and_pack))])
]

data_preprocessor = dict(type='SegDataPreProcessor',
                         mean=[123.675, 116.28, 103.53],
                         std=[58.395, 57.12, 57.375],
                         bgr_to_rgb=True,
                         pad_val=0,
                         seg_pad_val=255)
# num_workers, unless given here: seven of eight cores, at most 16, with a GPU;
# two without: see docs/performance.md.
train_dataloader = dict(
    batch_size=16,  # of one GPU; the paper's 16 are those of all GPUs
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=1,
                      sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='ClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

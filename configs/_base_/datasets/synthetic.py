# Embedded street scenes: 400 train and 100 val images of 256x128, in
# Cityscapes' layout and train ids (train and motorcycle never appear).
# Draw them with: python tools/prepare_data.py synthetic
dataset_type = 'CityscapesDataset'
data_root = 'data/synthetic'
num_classes = 19
crop_size = (128, 256)  # height, width
data_preprocessor = dict(type='SegDataPreProcessor',
                         mean=[123.675, 116.28, 103.53],
                         std=[58.395, 57.12, 57.375],
                         bgr_to_rgb=True,
                         size=crop_size,
                         pad_val=0,
                         seg_pad_val=255)

train_pipeline = [
    dict(  # 50 MiB in each loader worker
        type='Cached',
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='CheckLabels', num_classes=num_classes)
        ]),
    dict(
        type='Albumentations',
        transforms=[
            dict(
                type='RandomScale',
                scale_limit=(-0.5, 1.),  # factors 0.5 to 2
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
# Images are evaluated at their own size.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=num_classes),
    dict(type='PackSegInputs')
]
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
                     ], [dict(type='LoadAnnotations')],
                     [dict(type='CheckLabels', num_classes=num_classes)],
                     [dict(type='PackSegInputs')]])
]

train_dataloader = dict(
    batch_size=16,  # of one GPU; the paper's 16 are those of all GPUs
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type,
                 data_root=data_root,
                 data_prefix=dict(img_path='leftImg8bit/train',
                                  seg_map_path='gtFine/train'),
                 pipeline=train_pipeline))
val_dataloader = dict(batch_size=1,
                      num_workers=2,
                      persistent_workers=True,
                      sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(type=dataset_type,
                                   data_root=data_root,
                                   data_prefix=dict(img_path='leftImg8bit/val',
                                                    seg_map_path='gtFine/val'),
                                   pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# MobileNetV2 at stride 16 with a 1x1 classifier, no ASPP and no decoder: the
# student of the KA paper. 1.8 M parameters.
# Taps: backbone[0..3] = 24, 32, 96, 320 channels at strides 4, 8, 16, 16.
norm_cfg = dict(type='BN')  # SyncBN on several GPUs: default_runtime.py
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='MobileNetV2',
        widen_factor=1.,
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        # With a single index mmseg returns a bare map, which no head takes.
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        # ImageNet weights, as MMSegmentation's own configs name them.
        # From scratch: model.backbone.init_cfg=None.
        init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2')),
    decode_head=dict(type='FCNHead',
                     in_channels=320,
                     in_index=3,
                     channels=320,
                     num_convs=0,
                     concat_input=False,
                     dropout_ratio=0.1,
                     num_classes=19,
                     norm_cfg=norm_cfg,
                     align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss',
                                      avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

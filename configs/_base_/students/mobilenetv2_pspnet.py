# MobileNetV2 at stride 8 with the PSP head, as in MMSegmentation's
# mobilenet-v2-d8_pspnet, without its auxiliary head.
# Taps: backbone[0..3] = 24, 32, 96, 320 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 512 channels at stride 8.
norm_cfg = dict(type='BN')  # SyncBN on several GPUs: default_runtime.py
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='MobileNetV2',
        widen_factor=1.,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        # ImageNet weights, as MMSegmentation's own configs name them.
        # From scratch: model.backbone.init_cfg=None.
        init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2')),
    decode_head=dict(type='PSPHead',
                     in_channels=320,
                     in_index=3,
                     channels=512,
                     pool_scales=(1, 2, 3, 6),
                     dropout_ratio=0.1,
                     num_classes=19,
                     norm_cfg=norm_cfg,
                     align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss',
                                      avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

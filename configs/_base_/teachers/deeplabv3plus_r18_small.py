# DeepLabV3+ on a ResNet-18 of half width at stride 8, from scratch: a teacher
# that two CPU cores train in minutes. 3.1 M parameters.
# Taps: backbone[0..3] = 32, 64, 128, 256 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 64 channels at stride 8.
norm_cfg = dict(type='BN')
model = dict(type='EncoderDecoder',
             backbone=dict(type='ResNetV1c',
                           depth=18,
                           base_channels=32,
                           num_stages=4,
                           out_indices=(0, 1, 2, 3),
                           strides=(1, 2, 1, 1),
                           dilations=(1, 1, 2, 4),
                           contract_dilation=True,
                           norm_cfg=norm_cfg),
             decode_head=dict(type='DepthwiseSeparableASPPHead',
                              in_channels=256,
                              in_index=3,
                              channels=64,
                              dilations=(1, 3, 6, 9),
                              c1_in_channels=32,
                              c1_channels=24,
                              dropout_ratio=0.1,
                              num_classes=19,
                              norm_cfg=norm_cfg,
                              align_corners=False,
                              loss_decode=dict(type='CrossEntropyLoss',
                                               avg_non_ignore=True)),
             train_cfg=dict(),
             test_cfg=dict(mode='whole'))

# MobileNetV2 of half width at stride 16 with a small DeepLabV3+ head, from
# scratch, for a CPU. 0.7 M parameters.
# Taps: backbone[0..3] = 16, 16, 48, 160 channels at strides 4, 8, 16, 16;
# decode_head.bottleneck = 64 channels at stride 16.
_base_ = '../mobilenetv2.py'

model = dict(backbone=dict(widen_factor=0.5,
                           strides=(1, 2, 2, 2, 1, 1, 1),
                           dilations=(1, 1, 1, 1, 1, 2, 2),
                           init_cfg=None),
             decode_head=dict(type='DepthwiseSeparableASPPHead',
                              in_channels=160,
                              channels=64,
                              dilations=(1, 2, 4, 6),
                              c1_in_channels=16,
                              c1_channels=16))

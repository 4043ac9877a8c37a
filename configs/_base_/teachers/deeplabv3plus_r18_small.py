# DeepLabV3+ on a ResNet-18 of 3/8 of its width at stride 8, from scratch:
# small enough to be shipped. 1.9 M parameters.
# Taps: backbone[0..3] = 24, 48, 96, 192 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 64 channels at stride 8.
_base_ = '../encoder_decoder.py'

model = dict(backbone=dict(type='ResNetV1c',
                           depth=18,
                           base_channels=24,
                           num_stages=4,
                           out_indices=(0, 1, 2, 3),
                           strides=(1, 2, 1, 1),
                           dilations=(1, 1, 2, 4),
                           contract_dilation=True),
             decode_head=dict(type='DepthwiseSeparableASPPHead',
                              in_channels=192,
                              c1_in_channels=24,
                              c1_channels=24,
                              channels=64,
                              dilations=(1, 3, 6, 9)))

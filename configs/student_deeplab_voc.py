# MobileNetV2 at stride 16 alone, VOC 2012 + SBD: what KA is compared with.
_base_ = [
    '_base_/students/mobilenetv2_s16.py', '_base_/datasets/voc.py',
    '_base_/schedules/sgd_30k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

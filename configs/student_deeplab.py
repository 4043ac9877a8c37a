# MobileNetV2 at stride 16 alone, Cityscapes: what KA is compared with.
_base_ = [
    '_base_/students/mobilenetv2_s16.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/sgd_90k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

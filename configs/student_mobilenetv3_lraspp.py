# MobileNetV3-large with an LR-ASPP head alone, Cityscapes.
_base_ = [
    '_base_/students/mobilenetv3_lraspp.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/sgd_90k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

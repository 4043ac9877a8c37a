# MobileNetV2 with a DeepLabV3+ head alone, Cityscapes.
_base_ = [
    '_base_/students/mobilenetv2_deeplabv3plus.py',
    '_base_/datasets/cityscapes.py', '_base_/schedules/sgd_90k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

# KA, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes.
# The student alone: student_deeplab.py.
_base_ = [
    '_base_/students/mobilenetv2_s16.py',
    '_base_/teachers/deeplabv3plus_r101.py', '_base_/datasets/cityscapes.py',
    '_base_/schedules/sgd_90k.py', '_base_/methods/ka.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

custom_hooks = [{{_base_.teacher}}, {{_base_.ka}}]
stages = [{{_base_.translator}}, dict(name='distill')]

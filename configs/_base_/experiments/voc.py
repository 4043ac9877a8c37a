# As cityscapes.py here, on VOC 2012 + SBD.
_base_ = [
    '../students/mobilenetv2_s16.py', '../teachers/deeplabv3plus_r101_voc.py',
    '../datasets/voc.py', '../schedules/sgd_30k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

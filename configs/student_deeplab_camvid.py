# MobileNetV2 at stride 16 alone, from scratch, CamVid at half resolution.
_base_ = [
    '_base_/students/mobilenetv2_s16_half.py',
    '_base_/datasets/camvid_half.py',
    '_base_/schedules/camvid_half.py',
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

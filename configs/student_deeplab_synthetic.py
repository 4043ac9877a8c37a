# MobileNetV2 of half width at stride 16 alone, the embedded street scenes.
_base_ = [
    '_base_/students/mobilenetv2_s16_half.py',
    '_base_/datasets/synthetic.py',
    '_base_/schedules/synthetic.py',
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=4)

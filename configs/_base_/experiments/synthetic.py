# As cityscapes.py here, on the embedded street scenes, for a CPU: a small
# DeepLabV3+ -> MobileNetV2 of half width. Train
# teacher_deeplab_synthetic.py first.
_base_ = [
    '../students/mobilenetv2_s16_half.py', '../teachers/synthetic.py',
    '../datasets/synthetic.py', '../schedules/synthetic.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=4)

# As cityscapes.py here, on CamVid at half resolution, for a CPU: DeepLabV3+ on
# EfficientNet-Lite2 -> MobileNetV2 of half width, from scratch. Train
# teacher_deeplab_camvid.py first.
_base_ = [
    '../students/mobilenetv2_s16_half.py', '../teachers/camvid.py',
    '../datasets/camvid_half.py', '../schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

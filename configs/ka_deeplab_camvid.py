# KA, DeepLabV3+ on EfficientNet-Lite2 -> MobileNetV2 of half width
# at stride 16, CamVid at
# half resolution. Train teacher_deeplab_camvid.py first; the student alone:
# student_deeplab_camvid.py.
_base_ = [
    '_base_/students/mobilenetv2_s16_half.py',
    '_base_/datasets/camvid_half.py',
    '_base_/schedules/camvid_half.py',
    '_base_/methods/ka_camvid.py',
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

teacher = dict(type='TeacherHook',
               model='configs/teacher_deeplab_camvid.py',
               checkpoint='work_dirs/teacher_deeplab_camvid/iter_1500.pth')
custom_hooks = [teacher, {{_base_.ka}}]
stages = [{{_base_.translator}}, dict(name='distill')]

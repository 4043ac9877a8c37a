# KA, a small DeepLabV3+ -> MobileNetV2 of half width at stride 16, the
# embedded street scenes. Train teacher_deeplab_synthetic.py first; the
# student alone: student_deeplab_synthetic.py.
_base_ = [
    '_base_/students/mobilenetv2_s16_half.py',
    '_base_/datasets/synthetic.py',
    '_base_/schedules/synthetic.py',
    '_base_/methods/ka_synthetic.py',
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=4)

teacher = dict(type='TeacherHook',
               model='configs/teacher_deeplab_synthetic.py',
               checkpoint='work_dirs/teacher_deeplab_synthetic/iter_500.pth')
custom_hooks = [teacher, {{_base_.ka}}]
stages = [{{_base_.translator}}, dict(name='distill')]

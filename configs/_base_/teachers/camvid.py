# What teacher_deeplab_camvid.py trains: DeepLabV3+ on EfficientNet-Lite2.
teacher = dict(type='TeacherHook',
               model='seg_kd::teacher_deeplab_camvid.py',
               checkpoint='work_dirs/teacher_deeplab_camvid/iter_1500.pth')

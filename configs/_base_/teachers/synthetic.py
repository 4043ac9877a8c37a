# What teacher_deeplab_synthetic.py trains: a small DeepLabV3+.
teacher = dict(type='TeacherHook',
               model='seg_kd::teacher_deeplab_synthetic.py',
               checkpoint='work_dirs/teacher_deeplab_synthetic/iter_500.pth')

# What teacher_deeplab_synthetic.py trains, a small DeepLabV3+: its weights
# come with the package, in half precision. Others: teacher.checkpoint=FILE.
teacher = dict(type='TeacherHook',
               model='seg_kd::teacher_deeplab_synthetic.py')

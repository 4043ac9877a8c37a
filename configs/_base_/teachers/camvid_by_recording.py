# What teacher_deeplab_camvid_by_recording.py trains; of a fold, that fold's.
teacher = dict(
    type='TeacherHook',
    model='seg_kd::teacher_deeplab_camvid_by_recording.py',
    checkpoint='work_dirs/teacher_deeplab_camvid_by_recording/iter_1200.pth')

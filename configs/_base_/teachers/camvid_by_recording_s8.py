# What teacher_deeplab_camvid_by_recording_s8.py trains; of a fold, that
# fold's.
teacher = dict(
    type='TeacherHook',
    model='seg_kd::teacher_deeplab_camvid_by_recording_s8.py',
    checkpoint='work_dirs/teacher_deeplab_camvid_by_recording_s8/s8/'
    'iter_600.pth')

# As camvid.py here, measured on a recording that neither the student nor the
# teacher was trained on. Train teacher_deeplab_camvid_by_recording.py first;
# each fold, seg-kd train --fold NAME, has a teacher of its own, whose maps of
# all images are kept on disk.
_base_ = [
    '../students/mobilenetv2_s16_half.py',
    '../teachers/camvid_by_recording.py', '../datasets/camvid_by_recording.py',
    '../schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
teacher = dict(cache=dict(max_gib=1.))

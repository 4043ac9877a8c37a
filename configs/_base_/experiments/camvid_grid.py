# As camvid.py here, with augmentation that the teacher's maps can follow: each
# of the 367 training images passes through the teacher once for each set of
# layers that is tapped, whole.
_base_ = [
    '../students/mobilenetv2_s16_half.py', '../teachers/camvid.py',
    '../datasets/camvid_half_grid.py', '../schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
teacher = dict(cache=dict(max_gib=1.))

# As camvid_by_recording.py, with a student that starts from ImageNet.
_base_ = [
    '../students/efficientnet_lite0_s16.py',
    '../teachers/camvid_by_recording.py', '../datasets/camvid_by_recording.py',
    '../schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
teacher = dict(cache=dict(max_gib=1.))
# ImageNet weights: it needs fewer iterations than a student from scratch.
param_scheduler = [dict(end=1200, **_base_.poly)]
train_cfg = dict(max_iters=1200, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))

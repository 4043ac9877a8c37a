# DeepLabV3+ on EfficientNet-Lite2, CamVid without one of its recordings: the
# teacher of the configs on camvid_by_recording.py, at their 192x256. Other
# scales and colours than the students see. Needs pip install
# 'seg_kd[teacher]'.
_base_ = [
    '_base_/teachers/deeplabv3plus_effnetlite2.py',
    '_base_/datasets/camvid_by_recording.py', '_base_/schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(dataset=dict(
    pipeline=[_base_.train_pipeline[0], *_base_.teacher_augment]))

# ImageNet weights: it needs fewer iterations than a student from scratch.
param_scheduler = [dict(end=1200, **_base_.poly)]
train_cfg = dict(max_iters=1200, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))

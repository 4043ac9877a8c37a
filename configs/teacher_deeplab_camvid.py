# DeepLabV3+ on EfficientNet-Lite2, CamVid at half resolution: the teacher of
# ka_deeplab_camvid.py. Needs pip install 'seg_kd[teacher]'.
_base_ = [
    '_base_/teachers/deeplabv3plus_effnetlite2.py',
    '_base_/datasets/camvid_half.py', '_base_/schedules/camvid_half.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

# ImageNet weights: it needs fewer iterations than a student from scratch.
param_scheduler = [dict(end=1500, **_base_.poly)]
train_cfg = dict(max_iters=1500, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))

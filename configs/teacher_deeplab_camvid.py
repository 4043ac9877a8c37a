# DeepLabV3+ on EfficientNet-Lite2, CamVid at half resolution: the teacher of
# ka_deeplab_camvid.py. Needs pip install 'seg_kd[bench]'.
_base_ = [
    '_base_/teachers/deeplabv3plus_effnetlite2.py',
    '_base_/datasets/camvid_half.py',
    '_base_/schedules/camvid_half.py',
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

# ImageNet weights: it needs fewer iterations than a student from scratch.
max_iters = 1500
train_cfg = dict(max_iters=max_iters, val_interval=500)
param_scheduler = [
    dict(type='PolyLR',
         power=0.9,
         eta_min=0.,
         begin=0,
         end=max_iters,
         by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=500))

# teacher_deeplab_camvid.py at stride 8, with the augmentation that
# teacher_deeplab_camvid_by_recording.py has, and longer: the better teacher,
# for a GPU. Needs pip install 'seg_kd[teacher]'.
_base_ = './teacher_deeplab_camvid.py'

model = dict(backbone=dict(output_stride=8),
             decode_head=dict(dilations=(1, 12, 24, 36)))
train_dataloader = dict(dataset=dict(
    pipeline=[_base_.train_pipeline[0], *_base_.teacher_augment]))
param_scheduler = [dict(end=2400, **_base_.poly)]
train_cfg = dict(max_iters=2400, val_interval=800)
default_hooks = dict(checkpoint=dict(interval=400))

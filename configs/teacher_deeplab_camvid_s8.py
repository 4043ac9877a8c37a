# teacher_deeplab_camvid.py at stride 8, with the augmentation that
# teacher_deeplab_camvid_by_recording.py has, and longer: the better teacher, and
# three times as slow. Needs pip install 'seg_kd[teacher]', and a GPU or a day.
_base_ = './teacher_deeplab_camvid.py'

model = dict(backbone=dict(output_stride=8),
             decode_head=dict(dilations=(1, 12, 24, 36)))
train_dataloader = dict(dataset=dict(pipeline=[
    _base_.train_pipeline[0],
    dict(
        type='Albumentations',
        transforms=[
            dict(_base_.scale, scale_limit=(-0.25, 0.5)),  # 0.75 to 1.5
            _base_.crop,
            _base_.jitter[0],
            dict(_base_.jitter[1], brightness=(0.75, 1.25))
        ]),
    _base_.augment[-1]
]))
param_scheduler = [dict(end=2400, **_base_.poly)]
train_cfg = dict(max_iters=2400, val_interval=800)
default_hooks = dict(checkpoint=dict(interval=400))

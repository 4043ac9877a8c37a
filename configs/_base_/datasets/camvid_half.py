# CamVid at half resolution, 180x240, for a CPU. Labels stay whole at test
# time: predictions are resized to them.
_base_ = './camvid.py'

half = (240, 180)  # width, height
crop_size = (160, 160)  # height, width
data_preprocessor = dict(size=crop_size)
scale = dict(scale_limit=(-0.25, 1.))  # factors 0.75 to 2
# Cached: 60 MiB in each loader worker
train_pipeline = [
    dict(type='Cached',
         transforms=[*_base_.checked,
                     dict(type='Resize', scale=half)]),
    dict(type='Albumentations',
         transforms=[{
             **_base_.scale,
             **scale
         }, _base_.crop, *_base_.jitter]), _base_.augment[-1]
]
# Other scales and colours, for a teacher that starts from ImageNet: a
# recording that nobody trained on differs in both.
teacher_augment = [
    dict(
        type='Albumentations',
        transforms=[
            dict(_base_.scale, scale_limit=(-0.25, 0.5)),  # 0.75 to 1.5
            _base_.crop,
            _base_.jitter[0],
            dict(_base_.jitter[1], brightness=(0.75, 1.25))
        ]),
    _base_.augment[-1]
]
test_pipeline = [
    _base_.load[0],
    dict(type='Resize', scale=half), _base_.load[1], *_base_.check_and_pack
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

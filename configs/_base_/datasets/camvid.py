# CamVid: 367 train and 101 val images of 480x360, 11 classes.
# Test images (233) are not in all copies: to test on them,
#   --cfg-options test_dataloader.dataset.data_prefix.img_path=images/test \
#       test_dataloader.dataset.data_prefix.seg_map_path=labels/test
_base_ = './standard.py'

dataset_type = 'CamVidDataset'
num_classes = 11
crop_size = (360, 480)  # height, width
data_preprocessor = dict(size=crop_size)
# Cached: 0.25 GiB in each loader worker
train_pipeline = [
    dict(type='Cached', transforms=_base_.checked), *_base_.augment
]
train_dataloader = dict(dataset=dict(
    type=dataset_type,
    data_root='data/camvid',
    pipeline=train_pipeline,
    data_prefix=dict(img_path='images/train', seg_map_path='labels/train')))
val_dataloader = dict(dataset=dict(
    type=dataset_type,
    data_root='data/camvid',
    data_prefix=dict(img_path='images/val', seg_map_path='labels/val')))
test_dataloader = val_dataloader

# Cityscapes: 2975 train and 500 val images of 2048x1024, 19 classes.
# Whole images at test time; for a sliding window of the crop's size:
#   --cfg-options model.test_cfg.mode=slide \
#       model.test_cfg.crop_size='(512,1024)' \
#       model.test_cfg.stride='(336,680)'
_base_ = './standard.py'

dataset_type, data_root = 'CityscapesDataset', 'data/cityscapes'
num_classes = 19
crop_size = (512, 1024)  # height, width
data_preprocessor = dict(size=crop_size)
train_dataloader = dict(
    dataset=dict(type=dataset_type,
                 data_root=data_root,
                 data_prefix=dict(img_path='leftImg8bit/train',
                                  seg_map_path='gtFine/train')))
val_dataloader = dict(dataset=dict(
    type=dataset_type,
    data_root=data_root,
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')))
test_dataloader = val_dataloader

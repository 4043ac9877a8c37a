# Pascal VOC 2012 with the labels of SBD: 10582 train and 1449 val images,
# 21 classes.
# Whole images at test time; for a sliding window of the crop's size:
#   --cfg-options model.test_cfg.mode=slide \
#       model.test_cfg.crop_size='(512,512)' \
#       model.test_cfg.stride='(336,336)'
_base_ = './standard.py'

dataset_type = 'PascalVOCDataset'
data_root = 'data/VOCdevkit/VOC2012'
num_classes = 21
crop_size = (512, 512)  # height, width
data_preprocessor = dict(size=crop_size)
files = dict(type=dataset_type,
             data_root=data_root,
             data_prefix=dict(img_path='JPEGImages',
                              seg_map_path='SegmentationClassAug'))
train_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Segmentation/trainaug.txt', **files))
val_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Segmentation/val.txt', **files))
test_dataloader = val_dataloader

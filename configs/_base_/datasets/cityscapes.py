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
# Two thirds of a sample's time go into its PNG files. In a folder of a fast
# disk with 25 GB of room, they are decoded once:
#   --cfg-options decoded_images=/scratch/cityscapes
decoded_images = None
train_pipeline = [
    dict(type='Cached',
         transforms=_base_.checked,
         max_gib=0.,
         folder='config:decoded_images'), *_base_.augment
]
train_dataloader = dict(
    dataset=dict(type=dataset_type,
                 pipeline=train_pipeline,
                 data_root=data_root,
                 data_prefix=dict(img_path='leftImg8bit/train',
                                  seg_map_path='gtFine/train')))
val_dataloader = dict(dataset=dict(
    type=dataset_type,
    data_root=data_root,
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')))
test_dataloader = val_dataloader

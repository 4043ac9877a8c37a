# Embedded street scenes: 24 train and 64 val images of 256x128, in
# Cityscapes' layout and train ids (train and motorcycle never appear).
# Draw them with: python tools/prepare_data.py synthetic
_base_ = './cityscapes.py'

data_root = 'data/synthetic'
crop_size = (128, 256)  # height, width
data_preprocessor = dict(size=crop_size)
# Cached: 3 MiB in each loader worker, 43 with the images without labels
train_pipeline = [
    dict(type='Cached', transforms=_base_.checked), *_base_.augment
]
train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

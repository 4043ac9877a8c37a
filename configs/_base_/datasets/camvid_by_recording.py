# CamVid at half resolution, 192x256, trained on two of its recordings and
# measured on the third, which no frame was trained on. CamVid's own val images
# are frames of the recording that most training images come from: they measure
# memory as well, and hide most of what a distillation brings.
# `folds` has the three ways to leave one out; without a fold it is 0006R0.
_base_ = './camvid_half_grid.py'

recordings = ('0016E5', '0006R0', '0001TP')  # 305, 101 and 62 frames
frames = dict(data_prefix=dict(img_path='images', seg_map_path='labels'),
              splits=('train', 'val'))
train_dataloader = dict(dataset=dict(recordings=('0016E5',
                                                 '0001TP'), **frames))
val_dataloader = dict(dataset=dict(recordings=('0006R0', ), **frames))
test_dataloader = val_dataloader
folds = {
    f'without_{left}':
    dict(train_dataloader=dict(dataset=dict(recordings=tuple(
        r for r in recordings if r != left))),
         val_dataloader=dict(dataset=dict(recordings=(left, ))),
         test_dataloader=dict(dataset=dict(recordings=(left, ))))
    for left in recordings
}

# As camvid_by_recording.py here, without 0006R0, but for one thing: there are
# images of that recording without labels, its first 36 frames (four to each
# batch of eight with labels). Measured on its last 50, from 16 s later on.
_base_ = './camvid_by_recording.py'

train_dataloader = dict(
    unlabelled=dict(img_path='images/train/0006R0_f0[01]*', ratio=.5))
val_dataloader = dict(dataset=dict(indices=list(range(51, 101))))
test_dataloader = val_dataloader
folds = dict(_delete_=True, without_0006R0=dict())

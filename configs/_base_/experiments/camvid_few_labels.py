# As camvid_by_recording.py here, without 0006R0; of the other two recordings
# one image in eight has a label, 46 of 367. To each batch come as many of all
# of them without labels.
_base_ = './camvid_by_recording.py'

train_dataloader = dict(
    dataset=dict(indices=list(range(0, 367, 8))),
    # of images/train and images/val the frames of 0016E5 and 0001TP
    unlabelled=dict(img_path='images/[tv][ra]*/*[5P]_*', ratio=1.))
folds = dict(_delete_=True, without_0006R0=dict())

# As ka_deeplab_camvid.py, with the teacher's maps of all images on disk (33
# MiB: 16 for the stage of features, 17 for the others), and less augmentation
# for it: see docs/performance.md. Train teacher_deeplab_camvid.py first.
_base_ = [
    '_base_/experiments/camvid_grid.py', '_base_/methods/ka_after_features.py'
]

# As student_deeplab_camvid.py, with the augmentation of
# ka_deeplab_camvid_cached.py: what to compare that with.
_base_ = '_base_/experiments/camvid_grid.py'

# MobileNetV2 of half width at stride 16 alone, from scratch, CamVid at half
# resolution.
_base_ = '_base_/experiments/camvid.py'

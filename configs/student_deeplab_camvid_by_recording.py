# MobileNetV2 of half width at stride 16 alone, from scratch, CamVid measured
# on a recording of which no frame was trained on.
_base_ = '_base_/experiments/camvid_by_recording.py'

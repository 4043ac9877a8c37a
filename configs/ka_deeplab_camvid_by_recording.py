# KA, DeepLabV3+ on EfficientNet-Lite2 -> MobileNetV2 of half width at stride
# 16, CamVid measured on a recording of which no frame was trained on.
_base_ = [
    '_base_/experiments/camvid_by_recording.py',
    '_base_/methods/ka_after_features.py'
]

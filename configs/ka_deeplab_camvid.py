# KA, DeepLabV3+ on EfficientNet-Lite2 -> MobileNetV2 of half width at stride
# 16, CamVid at half resolution. Train teacher_deeplab_camvid.py first; the
# student alone: student_deeplab_camvid.py.
_base_ = [
    '_base_/experiments/camvid.py', '_base_/methods/ka_after_features.py'
]

# The recipe after a stage of features, DeepLabV3+ on EfficientNet-Lite2 ->
# MobileNetV2 of half width at stride 16, CamVid, the teacher's maps cached.
# Train teacher_deeplab_camvid.py first.
_base_ = [
    '_base_/experiments/camvid_grid.py',
    '_base_/methods/recipe_after_features.py'
]

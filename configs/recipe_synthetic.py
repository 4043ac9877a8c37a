# The recipe, a small DeepLabV3+ that is shipped -> MobileNetV2 of half width,
# the embedded street scenes, few with labels and more without. The student
# alone: student_deeplab_synthetic.py.
_base_ = [
    '_base_/experiments/synthetic_unlabelled.py',
    '_base_/methods/recipe_synthetic.py'
]

# The recipe, a small DeepLabV3+ that is shipped -> MobileNetV2 of half width,
# the embedded street scenes. The student alone: student_deeplab_synthetic.py.
_base_ = ['_base_/experiments/synthetic.py', '_base_/methods/recipe.py']

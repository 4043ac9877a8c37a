# KA, a small DeepLabV3+ -> MobileNetV2 of half width at stride 16, the
# embedded street scenes. Train teacher_deeplab_synthetic.py first; the
# student alone: student_deeplab_synthetic.py.
_base_ = ['_base_/experiments/synthetic.py', '_base_/methods/ka_synthetic.py']

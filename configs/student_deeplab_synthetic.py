# MobileNetV2 of half width at stride 16 alone, the embedded street scenes.
_base_ = '_base_/experiments/synthetic.py'

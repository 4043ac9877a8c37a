"""seg_kd: knowledge distillation for semantic segmentation.

Importing the package imports nothing else. The losses, ``seg_kd.losses``,
need torch alone. What a config can name is registered by
:mod:`seg_kd.register`: a config says
``custom_imports=dict(imports=['seg_kd.register'])``, and every command does it
by itself.
"""
__version__ = '0.1.0'

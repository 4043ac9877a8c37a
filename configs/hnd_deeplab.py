# HND, a split network: a head with a bottleneck of 12 channels at stride 8, to
# run on a device, gives the map at stride 4 that the rest of DeepLabV3+ on
# ResNet-101 goes on from, on a server. Cityscapes. What crosses the link:
# tools/export_split.py.
_base_ = '_base_/experiments/cityscapes.py'

model = dict(
    _delete_=True,
    type='SplitSegmentor',
    teacher={{_base_.teacher.model}},
    # The decoder of DeepLabV3+ reads this map, too: no later split is one.
    split='backbone[0]',
    backbone=dict(type='BottleneckHead', bottleneck_channels=12),
    data_preprocessor={{_base_.data_preprocessor}},
    test_cfg=dict(mode='whole'))
# Adam does not mind the scale of the only term.
# weight: see docs/methods/hnd.md
custom_hooks = [{{_base_.teacher}}, dict(type='HNDHook', weight=1.)]
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-3))

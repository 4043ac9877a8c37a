# HND, a split network: a head with a bottleneck of 12 channels at stride 8, to
# run on a device, gives the map at stride 4 that the rest of the teacher goes
# on from, on a server. What crosses the link: seg-kd export-split.
# `changes` are made in the experiment: it replaces the student.
changes = dict(
    model=dict(
        _delete_=True,
        type='SplitSegmentor',
        teacher='config:teacher.model',
        # The decoder of DeepLabV3+ reads this map, too: no later split is one.
        split='backbone[0]',
        backbone=dict(type='BottleneckHead', bottleneck_channels=12),
        data_preprocessor='config:data_preprocessor',
        test_cfg=dict(mode='whole')),
    # Adam does not mind the scale of the only term.
    optim_wrapper=dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-3)))
# weight: see docs/methods/hnd.md
custom_hooks = dict(HNDHook=dict(weight=1.))

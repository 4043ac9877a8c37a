# RKD, distances between 2048 pixels and angles between 128.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(RKDHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=0.96))

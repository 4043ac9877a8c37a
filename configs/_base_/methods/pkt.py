# PKT between 2048 pixels.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(PKTHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=7.3))

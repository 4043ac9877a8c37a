# SP between all pixels.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(SPHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=0.51))

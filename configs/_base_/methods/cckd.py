# CCKD with the Gaussian kernel between 2048 pixels.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(CCKDHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=12.))

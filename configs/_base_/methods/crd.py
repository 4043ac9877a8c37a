# CRD between pixels of other classes. With instances='image' it is the paper's
# form.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(CRDHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=0.03))

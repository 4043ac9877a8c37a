# VID: how likely the teacher is, given the student.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(VIDHook=dict(
    student='backbone[3]', teacher='decode_head.bottleneck', weight=28.))

# AT, attention transfer.
levels = ['backbone[1]', 'backbone[2]', 'backbone[3]']
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(ATHook=dict(student=levels, teacher=levels, weight=0.48))

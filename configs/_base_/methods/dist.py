# DIST: correlation between classes and between pixels.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(DISTHook=dict(weight=0.25))

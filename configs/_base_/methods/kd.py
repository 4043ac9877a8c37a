# KD on logits.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(KDHook=dict(weight=0.27, temperature=4.))

# Logit standardization.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(LogitStdHook=dict(weight=0.42, temperature=2.))

# The projector's recipe (SRD). Other projectors: projector='mlp', norm='none',
# ...
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(SRDHook=dict(student='backbone[3]',
                                 teacher='decode_head.bottleneck',
                                 projector='linear',
                                 weight=0.19))

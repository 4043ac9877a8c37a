# ICKD in a grid of 4 x 4 cells.
# weight: half the pull of the task on CamVid, docs/methods/README.md
custom_hooks = dict(ICKDHook=dict(student='backbone[3]',
                                  teacher='decode_head.bottleneck',
                                  grid=(4, 4),
                                  weight=0.51))

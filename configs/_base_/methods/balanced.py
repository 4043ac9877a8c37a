# The balanced map loss: direction and a little size of standardized vectors.
# The weight is measured: half the pull of the task.
custom_hooks = dict(BalancedHook=dict(student='backbone[3]',
                                      teacher='decode_head.bottleneck',
                                      weight='auto',
                                      auto_ratio=0.5))

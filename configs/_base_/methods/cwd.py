# CWD: where in the image each channel is active.
# The paper's weight, 50, belongs to SGD; here it is measured: half the pull of
# the task.
custom_hooks = dict(CWDHook=dict(student='backbone[3]',
                                 teacher='decode_head.bottleneck',
                                 weight='auto',
                                 auto_ratio=0.5))

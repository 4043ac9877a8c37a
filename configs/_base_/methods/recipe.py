# What has gained most so far on recordings that nobody trained on: FitNets'
# hint beside the task, its regressor at ten times the rate, and KD. See
# docs/recipes.md.
custom_hooks = dict(FitNetHook=dict(student='backbone[2]',
                                    teacher='backbone[2]',
                                    weight='auto',
                                    lr_mult=10.),
                    KDHook=dict(temperature=2., weight=1.))

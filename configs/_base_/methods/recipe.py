# The recipe in one stage: FitNets' hint beside the task, its regressor at ten
# times the rate, and KD. With a stage of features before it:
# recipe_after_features.py.
custom_hooks = dict(FitNetHook=dict(student='backbone[2]',
                                    teacher='backbone[2]',
                                    weight='auto',
                                    lr_mult=10.),
                    KDHook=dict(temperature=2., weight=1.))

# The recipe after features: first the student up to FitNets' hint learns the
# teacher's middle map, without labels, then all of it the task and the recipe.
_base_ = ['../stages/features.py', './recipe.py']

stages = dict(
    features=dict(train_cfg=dict(max_iters=.25),
                  custom_hooks=dict(KDHook=None, FitNetHook=dict(weight=.28))))

# A stage before the task: the student learns from the teacher alone, for a
# fifth of the config's iterations, at a constant rate. `task=False`: what its
# heads learn from labels has weight 0, and what only that could move stays.
_base_ = './alone.py'

stages = dict(init=dict(task=False,
                        train_cfg=dict(max_iters=0.2),
                        param_scheduler=None,
                        **_base_.alone))

# Features before the task: the student learns the teacher's maps and nothing
# from labels, for a fifth of the config's iterations at a constant rate; what
# lies above its tapped maps stays as it is. Then the task goes on from there.
# A method says what is distilled in each: its hooks are those of `features`,
# and `stages = dict(task=dict(custom_hooks=...))` changes them for the task.
_base_ = './alone.py'

stages = dict(features=dict(task=False,
                            train_cfg=dict(max_iters=0.2),
                            param_scheduler=None,
                            **_base_.alone),
              task=dict(load_from='stage:features'))

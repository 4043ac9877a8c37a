# FSP: the backbone learns the flow between the teacher's layers, then the task
# alone.
_base_ = '../stages/features.py'

layers = ['backbone[0]', 'backbone[1]', 'backbone[2]', 'backbone[3]']
# weight: see docs/methods/fsp.md
custom_hooks = dict(FSPHook=dict(student=layers, teacher=layers, weight=.18))
stages = dict(task=dict(custom_hooks=[]))

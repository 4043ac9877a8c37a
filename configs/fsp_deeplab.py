# FSP, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes: the
# backbone learns the flow between the teacher's layers, then the task alone.
_base_ = ['_base_/experiments/cityscapes.py', '_base_/stages/init.py']

layers = ['backbone[0]', 'backbone[1]', 'backbone[2]', 'backbone[3]']
custom_hooks = [
    {{_base_.teacher}},
    # weight: see docs/methods/fsp.md
    dict(type='FSPHook', student=layers, teacher=layers, weight=.18)
]
stages = [{{_base_.init}},
          dict(name='task', load_from='stage:init', custom_hooks=[])]

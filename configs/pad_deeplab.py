# PAD, DeepLabV3+ on ResNet-101 -> MobileNetV2 at stride 16, Cityscapes: warmed
# up with the plain squared error for a tenth of the iterations, then with the
# variance of each activation.
_base_ = ['_base_/experiments/cityscapes.py']

pad = dict(
    type='PADHook',
    student='backbone[3]',
    teacher='decode_head.bottleneck',
    # weight: half the pull of the task on CamVid, docs/methods/README.md
    weight=1.)
custom_hooks = [{{_base_.teacher}}, pad]
stages = [
    dict(name='warm',
         custom_hooks={'1': dict(warm=True, **pad)},
         train_cfg=dict(max_iters=0.1),
         param_scheduler=None,
         val_cfg=None,
         val_dataloader=None,
         val_evaluator=None),
    dict(name='distill', load_from='stage:warm')
]

# Factor transfer. First the paraphraser alone, with the authors' optimizer:
# SGD at a constant 0.1, weight decay 5e-4.
taps = dict(teacher='decode_head.bottleneck')
ft = dict(
    type='FTHook',
    paraphraser='stage:paraphraser',
    student='backbone[3]',
    # weight: half the pull of the task on CamVid, docs/methods/README.md
    weight=2.3,
    **taps)
paraphraser = dict(
    name='paraphraser',
    custom_hooks={'1': dict(type='ParaphraserHook', **taps)},
    train_cfg=dict(max_iters=500),
    optim_wrapper=dict(
        _delete_=True,
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
        # as for KA's translator: at 0.1 real maps may diverge without it
        clip_grad=dict(max_norm=1.)),
    param_scheduler=None,
    val_cfg=None,
    val_dataloader=None,
    val_evaluator=None)

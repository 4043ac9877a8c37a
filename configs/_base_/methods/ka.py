# Knowledge Adaptation as the paper has it. First the translator alone: one
# epoch (here of Cityscapes, 2975 / 16 iterations), SGD at a constant 0.1. A
# stage's custom_hooks = {'1': ...} replaces the second hook of the config, so
# both stages have the same teacher.
taps = dict(student='backbone[3]', teacher='decode_head.bottleneck')
ka = dict(type='KAHook', translator='stage:translator', **taps)
translator = dict(
    name='translator',
    custom_hooks={'1': dict(type='TranslatorHook', **taps)},
    train_cfg=dict(max_iters=186),
    optim_wrapper=dict(
        _delete_=True,
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
        # at 0.1 real maps diverge without it
        clip_grad=dict(max_norm=1.)),
    param_scheduler=None,
    val_cfg=None,
    val_dataloader=None,
    val_evaluator=None)

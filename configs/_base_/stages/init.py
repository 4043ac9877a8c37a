# A stage before the task: the student learns from the teacher alone, for a
# fifth of the config's iterations, at a constant rate. The task has weight 0,
# and what only the task could move stays. Written as
# stages = [{{_base_.init}}, dict(name='task', load_from='stage:init', ...)].
init = dict(name='init',
            model=dict(decode_head=dict(loss_decode=dict(loss_weight=0.))),
            optim_wrapper=dict(paramwise_cfg=dict(
                custom_keys={'decode_head': dict(lr_mult=0.)})),
            train_cfg=dict(max_iters=0.2),
            param_scheduler=None,
            val_cfg=None,
            val_dataloader=None,
            val_evaluator=None)

# What a stage before the task has none of: validation.
alone = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)

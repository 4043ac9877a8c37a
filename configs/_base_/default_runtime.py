# What every run shares: scope, hooks, log, environment.
default_scope = 'mmseg'
custom_imports = dict(imports=['seg_kd.register'], allow_failed_imports=False)
runner_type = 'DistillRunner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook',
                    by_epoch=False,
                    interval=2000,
                    max_keep_ckpts=2,
                    save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # What one sees of a training, see docs/monitoring.md.
    # None in the place of any of these leaves it out.
    gradient_ratio=dict(type='GradientRatioHook'),
    pictures=dict(type='PicturesHook'),
    student_copies=dict(type='StudentCopyHook'),
    loss_guard=dict(type='LossGuardHook'))
log_processor = dict(by_epoch=False)
log_level = 'INFO'
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer',
                  vis_backends=vis_backends,
                  name='visualizer')

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# What the schedules have in common, but for their end.
poly = dict(type='PolyLR', power=0.9, eta_min=0., begin=0, by_epoch=False)
# The layers that a distillation brings, if there are any.
optim_wrapper = dict(
    type='OptimWrapper',
    paramwise_cfg=dict(custom_keys={'distill': dict(lr_mult=1.)}))

env_cfg = dict(cudnn_benchmark=True,
               mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))
# On a GPU two runs differ in the last digits, unless `--cfg-options
# randomness.deterministic=True`, which is slower.
randomness = dict(seed=0)
# The models name plain BN. On several GPUs `--cfg-options sync_bn=torch`
# turns it into SyncBN when the runner wraps the model.
sync_bn = None
load_from = None
resume = False

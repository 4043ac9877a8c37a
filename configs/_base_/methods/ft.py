# Factor transfer. First the paraphraser alone, with the authors' optimizer:
# KA's translator's, but for the weight decay.
_base_ = '../stages/autoencoder.py'

taps = dict(teacher='decode_head.bottleneck')
custom_hooks = dict(FTHook=dict(
    paraphraser='stage:paraphraser',
    student='backbone[3]',
    # weight: half the pull of the task on CamVid, docs/methods/README.md
    weight=2.3,
    **taps))
stages = dict(paraphraser=dict(
    custom_hooks=dict(FTHook=dict(type='ParaphraserHook', **taps)),
    train_cfg=dict(max_iters=500),
    **_base_.autoencoder),
              distill=dict())
stages['paraphraser']['optim_wrapper']['optimizer']['weight_decay'] = 5e-4

# Knowledge Adaptation as the paper has it. First the translator alone: one
# epoch (here of Cityscapes, 2975 / 16 iterations). In that stage another hook
# is in the place of KAHook.
_base_ = '../stages/autoencoder.py'

taps = dict(student='backbone[3]', teacher='decode_head.bottleneck')
custom_hooks = dict(KAHook=dict(translator='stage:translator', **taps))
stages = dict(translator=dict(
    custom_hooks=dict(KAHook=dict(type='TranslatorHook', **taps)),
    train_cfg=dict(max_iters=186),
    **_base_.autoencoder),
              distill=dict())

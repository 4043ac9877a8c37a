# The optimizer of a stage that trains an autoencoder of the teacher's map: SGD
# at a constant 0.1. Real maps diverge there without clipping.
_base_ = './alone.py'

autoencoder = dict(optim_wrapper=dict(_delete_=True,
                                      type='OptimWrapper',
                                      optimizer=dict(type='SGD',
                                                     lr=0.1,
                                                     momentum=0.9,
                                                     weight_decay=1e-4),
                                      clip_grad=dict(max_norm=1.)),
                   param_scheduler=None,
                   **_base_.alone)

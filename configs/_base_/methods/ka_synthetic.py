# The embedded street scenes: one epoch is 400 / 4 iterations, and the weight
# is CamVid's (see ka_camvid.py).
_base_ = './ka.py'

ka = dict(adaptation_weight=2.)
translator = dict(train_cfg=dict(max_iters=100))

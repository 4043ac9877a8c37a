# The embedded street scenes: one epoch is 400 / 4 iterations; the weights are
# CamVid's (see ka_camvid.py).
_base_ = './ka_camvid.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

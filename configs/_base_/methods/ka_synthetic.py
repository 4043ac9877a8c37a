# The embedded street scenes: fewer iterations for the translator. The weights
# are CamVid's (see ka_camvid.py).
_base_ = './ka_camvid.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

# The embedded street scenes: one epoch of the images that have labels is 16
# iterations; the translator gets eight of all. The weights are CamVid's (see
# ka_camvid.py).
_base_ = './ka_camvid.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

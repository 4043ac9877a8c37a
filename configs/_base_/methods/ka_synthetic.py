# The embedded street scenes; the translator gets two and a half epochs. The
# weights are CamVid's (see ka_camvid.py).
_base_ = './ka_camvid.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

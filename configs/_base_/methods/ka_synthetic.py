# KA with CamVid's weights (see ka_camvid.py), on the demo's scenes: fewer
# iterations for the translator.
_base_ = './ka_camvid.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

# KA with the paper's weights, on VOC. The translator's one epoch is 10582 / 16
# iterations.
_base_ = './ka.py'

stages = dict(translator=dict(train_cfg=dict(max_iters=662)))

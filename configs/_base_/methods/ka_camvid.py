# CamVid's epoch is 46 iterations: too few, the translator gets four.
_base_ = './ka.py'

translator = dict(train_cfg=dict(max_iters=200))

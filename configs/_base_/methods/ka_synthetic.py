# The translator's one epoch of the street scenes: 400 / 4 iterations.
_base_ = './ka.py'

translator = dict(train_cfg=dict(max_iters=100))

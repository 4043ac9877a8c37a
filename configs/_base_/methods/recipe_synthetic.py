# The recipe after features, on the demo's scenes. Half of each batch has no
# label, and both students see as many images in an iteration.
_base_ = './recipe_after_features.py'

half = dict(batch_size=2)
stages = dict(features=dict(train_cfg=dict(max_iters=.5),
                            train_dataloader=half),
              task=dict(train_dataloader=half))

# The embedded street scenes: one epoch of the images that have labels is 16
# iterations; the translator gets eight of all. The weights are CamVid's (see
# ka_camvid.py). To each batch come as many images without labels, of which
# the terms see every pixel.
_base_ = './ka_camvid.py'

train_dataloader = dict(
    unlabelled=dict(img_path='leftImg8bit/train_extra', ratio=1.))
stages = dict(translator=dict(train_cfg=dict(max_iters=100)))

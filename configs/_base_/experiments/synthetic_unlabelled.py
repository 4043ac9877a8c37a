# As synthetic.py here; to each batch come as many images without labels: what
# distils sees every pixel of them.
_base_ = './synthetic.py'

train_dataloader = dict(
    unlabelled=dict(img_path='leftImg8bit/train_extra', ratio=1.))

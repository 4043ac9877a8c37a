# As cityscapes.py here, with PSPNet as the teacher.
_base_ = './cityscapes.py'

teacher = dict(
    model='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py')

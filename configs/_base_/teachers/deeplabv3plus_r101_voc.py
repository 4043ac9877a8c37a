# DeepLabV3+, ResNet-101 at stride 8, VOC 2012 + SBD: 78.62 mIoU.
# Taps: backbone[0..3] = 256, 512, 1024, 2048 channels at strides 4, 8, 8, 8;
# decode_head.bottleneck = 512 channels at stride 8.
teacher = dict(type='TeacherHook',
               model='mmseg::deeplabv3plus/'
               'deeplabv3plus_r101-d8_4xb4-40k_voc12aug-512x512.py')

# What all networks here share: students in students/, and those teachers in
# teachers/ that are trained here.
norm_cfg = dict(type='BN')  # SyncBN on several GPUs: default_runtime.py
model = dict(type='EncoderDecoder',
             backbone=dict(norm_cfg=norm_cfg),
             decode_head=dict(in_index=3,
                              dropout_ratio=0.1,
                              num_classes=19,
                              norm_cfg=norm_cfg,
                              align_corners=False,
                              loss_decode=dict(type='CrossEntropyLoss',
                                               avg_non_ignore=True)),
             train_cfg=dict(),
             test_cfg=dict(mode='whole'))

# A small DeepLabV3+, the embedded street scenes: the teacher of
# ka_deeplab_synthetic.py.
_base_ = [
    '_base_/teachers/deeplabv3plus_r18_small.py',
    '_base_/datasets/synthetic.py', '_base_/schedules/synthetic.py'
]

train_dataloader = dict(batch_size=4)
model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))

# As cityscapes.py here, on the embedded street scenes, for a CPU: a small
# DeepLabV3+, which is shipped -> MobileNetV2 of half width.
_base_ = [
    '../students/mobilenetv2_deeplabv3plus_half.py',
    '../teachers/synthetic.py', '../datasets/synthetic_grid.py',
    '../schedules/synthetic.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=4)
# One for all runs: the teacher sees each image once.
teacher = dict(
    cache=dict(folder='work_dirs/synthetic_teacher_maps', max_gib=1.))

# Everything of an experiment on Cityscapes but the method: teacher, student,
# data, schedule. A config that names camvid.py or synthetic.py in its place
# is the same experiment on other data.
_base_ = [
    '../students/mobilenetv2_s16.py', '../teachers/deeplabv3plus_r101.py',
    '../datasets/cityscapes.py', '../schedules/sgd_90k.py'
]

model = dict(data_preprocessor={{_base_.data_preprocessor}},
             decode_head=dict(num_classes={{_base_.num_classes}}))
# The memory format of both networks. On an H200 True makes the student a
# quarter faster and this teacher a quarter slower: docs/performance.md, "First
# commands on a GPU".
channels_last = False

"""The teacher: complete, of the right classes, seen through its own eyes."""
import pytest
import torch
from conftest import build_runner, teacher
from mmengine.config import Config
from mmengine.registry import init_default_scope

from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.hooks.student import stack_labels
from seg_kd.networks.normalization import Renormalize
from seg_kd.registry import MODELS, RUNNERS
from seg_kd.teacher.build import build_teacher, teacher_config
from seg_kd.teacher.teacher import set_mode


def build(checkpoint, model=None):
    return build_teacher(model or teacher(), str(checkpoint), False, None)


def changed(checkpoint, tmp_path, change):
    content = torch.load(checkpoint)
    change(content['state_dict'])
    path = tmp_path / 'changed.pth'
    torch.save(content, path)
    return path


def test_every_weight_is_loaded(teacher_checkpoint):
    network, _ = build(teacher_checkpoint)
    stored = torch.load(teacher_checkpoint)['state_dict']
    for key, value in network.state_dict().items():
        assert torch.equal(value, stored[key]), key


def test_missing_weights_are_listed(teacher_checkpoint, tmp_path):
    path = changed(
        teacher_checkpoint, tmp_path, lambda s:
        [s.pop('backbone.stem.0.weight'),
         s.pop('decode_head.conv_seg.bias')])
    with pytest.raises(UserError,
                       match='2 of .* weights are missing '
                       r'\(backbone.stem.0.weight, decode_head.conv_seg.bias'):
        build(path)


def test_weights_of_another_shape_are_listed(teacher_checkpoint, tmp_path):
    path = changed(
        teacher_checkpoint, tmp_path, lambda s: s.update(
            {'decode_head.conv_seg.weight': torch.zeros(7, 12, 1, 1)}))
    with pytest.raises(UserError,
                       match=r'conv_seg.weight is \(7, 12, 1, 1\), '
                       r'the model has \(4, 12, 1, 1\)'):
        build(path)


def test_prefix_and_spare_weights_are_no_obstacle(teacher_checkpoint,
                                                  tmp_path):
    content = torch.load(teacher_checkpoint)['state_dict']
    content = {f'module.{k}': v for k, v in content.items()}
    content['module.auxiliary_head.weight'] = torch.zeros(1)
    torch.save(content, tmp_path / 'bare.pth')
    build(tmp_path / 'bare.pth')


def test_a_checkpoint_is_needed():
    with pytest.raises(UserError, match='needs checkpoint='):
        teacher_config(teacher(), None)


def test_config_by_name_knows_its_weights():
    config, url = teacher_config(
        'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py', None)
    assert config['decode_head']['type'] == 'PSPHead'
    assert config['data_preprocessor']['mean'][0] == 123.675
    assert url.startswith('https://') and 'pspnet_r50' in url
    with pytest.raises(UserError, match='no config or no weights are known'):
        teacher_config('mmseg::pspnet/pspnet_r9.py', None)


def test_config_by_file(teacher_checkpoint, tmp_path):
    Config(dict(model=teacher())).dump(str(tmp_path / 'psp.py'))
    config, path = teacher_config(str(tmp_path / 'psp.py'), teacher_checkpoint)
    assert path == teacher_checkpoint
    build(path, config)
    with pytest.raises(UserError, match='does not exist'):
        teacher_config(str(tmp_path / 'other.py'), teacher_checkpoint)


@pytest.mark.parametrize('classes, message', [
    (('sky', 'road', 'car', 'pole'), "class 3 is 'pole', in the data.*'tree'"),
    (('sky', 'road', 'car'), '3 classes, the data has 4'),
])
def test_a_teacher_for_other_classes(ka_config, teacher_checkpoint, tmp_path,
                                     classes, message):
    content = torch.load(teacher_checkpoint)
    content['meta']['dataset_meta']['classes'] = classes
    torch.save(content, tmp_path / 'other.pth')
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.custom_hooks[0].checkpoint = str(tmp_path / 'other.pth')
    with pytest.raises(UserError, match=message):
        build_runner(ka_config).train()
    ka_config.custom_hooks[0].allow_other_classes = True
    ka_config.train_cfg.max_iters = 1
    build_runner(ka_config).train()


def test_wrong_number_of_classes(ka_config):
    ka_config.pop('stages')
    ka_config.custom_hooks = []
    ka_config.model.decode_head.num_classes = 5
    with pytest.raises(UserError, match='student has 5 classes.*set has 4'):
        build_runner(ka_config).train()


def test_evaluate_logs_the_teachers_own_metric(ka_config, capfd):
    """The same number as a plain run of the test loop over the teacher."""
    hook = ka_config.custom_hooks[0]
    plain = Config(ka_config.to_dict())
    plain.update(custom_hooks=[], runner_type='Runner')
    plain.pop('stages')
    runner = build_runner(plain)
    runner.model = build(hook.checkpoint)[0]
    expected = runner.test()['mIoU']
    assert expected > 0

    ka_config.pop('stages')
    ka_config.train_cfg.max_iters = 1
    ka_config.custom_hooks[1].translator = None
    hook.evaluate = True
    capfd.readouterr()
    build_runner(ka_config).train()
    shown = capfd.readouterr()
    assert ('Teacher on the validation set: aAcc' in shown.out + shown.err)
    assert f'mIoU {expected:.2f}' in shown.out + shown.err


def test_bn_train_leaves_the_statistics_alone(teacher_checkpoint):
    network, _ = build(teacher_checkpoint)
    before = {
        k: v.clone()
        for k, v in network.state_dict().items() if 'num_batches' not in k
    }
    image = torch.randn(2, 3, 64, 96)
    set_mode(network, 'eval')
    evaluated = network(image)
    set_mode(network, 'bn_train')
    assert not torch.allclose(network(image), evaluated)
    after = network.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    with pytest.raises(UserError, match="'eval' or 'bn_train'"):
        TeacherHook(teacher(), 'x', teacher_mode='train')


@pytest.mark.parametrize('flip', [True, False])
def test_the_teacher_sees_its_own_normalization(flip):
    """As if its own preprocessor had made the input from the image."""
    ours = dict(type='SegDataPreProcessor',
                mean=[123., 116., 103.],
                std=[58., 57., 56.],
                bgr_to_rgb=True)
    theirs = dict(ours,
                  mean=[127., 128., 129.],
                  std=[100., 110., 120.],
                  bgr_to_rgb=flip)
    student, network = MODELS.build(ours), MODELS.build(theirs)
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    seen = student(dict(inputs=[image]))['inputs']
    expected = network(dict(inputs=[image]))['inputs']
    torch.testing.assert_close(Renormalize(student, network)(seen),
                               expected,
                               atol=1e-5,
                               rtol=1e-5)
    assert Renormalize(student, student)(seen) is seen


def test_labels_of_the_batch(data_root, plain_config):
    init_default_scope('mmseg')
    samples = [
        next(
            iter(
                RUNNERS.get('DistillRunner').build_dataloader(
                    plain_config.val_dataloader)))['data_samples'][0]
    ] * 2
    labels = stack_labels(samples)
    assert labels.shape == (2, 64, 96)
    assert torch.equal(labels[0], samples[0].gt_sem_seg.data[0])
    assert stack_labels([]) is None


def test_evaluate_where_nothing_is_validated(ka_config, tmp_path):
    for part in (ka_config, ka_config.stages[0]):
        part.custom_hooks[0].evaluate = True
    ka_config.train_cfg.max_iters = 1
    run_stages(ka_config, str(tmp_path / 'run'))
    first, second = (next((tmp_path / 'run' / stage).glob('*/*.log'))
                     for stage in ('translator', 'distill'))
    assert "as the stage 'translator' validates" in first.read_text()
    assert 'Teacher on the validation set: aAcc' in second.read_text()
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    with pytest.raises(UserError, match='needs a validation set'):
        build_runner(ka_config).train()

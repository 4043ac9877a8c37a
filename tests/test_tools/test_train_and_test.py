"""The two commands, as a user calls them: what they do, and their errors."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import run_tool
from mmengine.config import Config


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Runs a tool in ``tmp_path``; gives exit status and what it printed."""

    def run(tool, *arguments):
        status = run_tool(tool, arguments, monkeypatch, tmp_path)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture
def config(ka_config, tmp_path):
    """The tiny experiment as a file, with what test.py needs."""
    ka_config.tta_model = dict(type='SegTTAModel')
    ka_config.tta_pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug',
             transforms=[[
                 dict(type='Resize', scale_factor=r, keep_ratio=True)
                 for r in (1., 1.5)
             ], [dict(type='RandomFlip', prob=p) for p in (0., 1.)],
                         [dict(type='LoadAnnotations')],
                         [dict(type='PackSegInputs')]])
    ]
    ka_config.pop('work_dir')
    ka_config.dump(str(tmp_path / 'ka.py'))
    return 'ka.py'


def test_train_then_test(call, config, tmp_path, data_root):
    """Training's last validation and test.py agree on the same weights."""
    status, _, _ = call('train', config, '--seed', 3, '--amp')
    assert status == 0
    folder = tmp_path / 'work_dirs/ka/distill'
    log = next(folder.glob('*/vis_data/scalars.json')).read_text()
    last = json.loads(log.splitlines()[-1])
    checkpoint = folder / 'iter_6.pth'
    assert torch.load(checkpoint, weights_only=False)['meta']['seed'] == 3

    status, out, _ = call('test', config, checkpoint, '--teacher', '--out',
                          'labels', '--show-dir', 'shown')
    assert status == 0
    student, teacher = out.splitlines()[-2:]
    assert f'student: aAcc {last["aAcc"]:.2f}, mIoU {last["mIoU"]:.2f}' \
        in student
    assert teacher.startswith('teacher: aAcc')
    for name in ('student', 'teacher'):
        label = cv2.imread(str(tmp_path / f'labels/{name}/0.png'),
                           cv2.IMREAD_UNCHANGED)
        assert label.shape == (64, 96) and label.max() < 4
        assert len(list((tmp_path / 'shown' / name).rglob('*.png'))) == 3
    truth = [
        cv2.imread(str(data_root / f'val/labels/{i}.png'), 0) for i in range(3)
    ]
    guess = [
        cv2.imread(str(tmp_path / f'labels/student/{i}.png'), 0)
        for i in range(3)
    ]
    valid = np.array(truth) != 255
    accuracy = (np.array(truth) == np.array(guess))[valid].mean() * 100
    assert accuracy == pytest.approx(last['aAcc'], abs=0.01)

    status, out, _ = call('test', config, checkpoint, '--tta')
    assert status == 0 and 'student: aAcc' in out

    # six iterations may end in one class: here all of them are to be seen
    content = torch.load(checkpoint, weights_only=False)
    torch.manual_seed(0)
    content['state_dict']['decode_head.conv_seg.weight'].normal_()
    torch.save(content, tmp_path / 'lively.pth')
    found = []
    for options in ([], [
            '--cfg-options', 'model.test_cfg.mode=slide',
            'model.test_cfg.crop_size=(48,64)', 'model.test_cfg.stride=(32,32)'
    ]):
        status, out, _ = call('test', config, 'lively.pth', *options)
        assert status == 0 and 'student: aAcc' in out
        found.append(out.splitlines()[-1])
    assert found[0] != found[1]

    status, out, _ = call('train', config, '--seed', 3, '--amp')
    assert status == 0 and out.count('finished, nothing to do') == 2


def edit(tmp_path, change):
    cfg = Config.fromfile(str(tmp_path / 'ka.py'))
    change(cfg)
    cfg.dump(str(tmp_path / 'ka.py'))


def unknown_hook(cfg):
    cfg.custom_hooks[1].type = 'KAHok'


def unknown_model(cfg):
    cfg.model.type = 'EncoderDecodr'


def unknown_backbone(cfg):
    cfg.model.backbone.type = 'MobileNetV22'


def no_data(cfg):
    cfg.train_dataloader.dataset.update(type='CityscapesDataset',
                                        data_root='data/cityscapes',
                                        img_suffix='_leftImg8bit.png',
                                        metainfo=None,
                                        data_prefix=dict(
                                            img_path='leftImg8bit/train',
                                            seg_map_path='gtFine/train'))


def no_data_and_no_teacher(cfg):
    """The data comes first: nothing is fetched for a run that cannot be."""
    no_data(cfg)
    cfg.stages[0].custom_hooks[0].checkpoint = 'nowhere.pth'


def wrong_layer(cfg):
    cfg.stages[0].custom_hooks[1].teacher = 'decode_head.botleneck'


def no_checkpoint(cfg):
    cfg.stages[0].custom_hooks[0].checkpoint = 'nowhere.pth'


def wrong_classes(cfg):
    cfg.model.decode_head.num_classes = 7
    cfg.stages.pop(0)
    cfg.stages[0].custom_hooks = []


def missing_argument(cfg):
    cfg.stages[0].custom_hooks[1].pop('teacher')


def unknown_argument(cfg):
    cfg.train_cfg.maxiters = 5


def unknown_stage(cfg):
    cfg.custom_hooks[1].translator = 'stage:translatr'


def no_training(cfg):
    cfg.pop('train_dataloader')


def bad_label(cfg):
    """Met by a loader worker, whose traceback nobody wants to read."""
    root = Path(cfg.train_dataloader.dataset.data_root)
    copy = Path(cfg.filename).parent / 'bad'
    for kind in ('images', 'labels'):
        (copy / 'train' / kind).mkdir(parents=True)
        for path in (root / 'train' / kind).iterdir():
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if kind == 'labels':
                image[5, 7] = 9
            cv2.imwrite(str(copy / 'train' / kind / path.name), image)
    cfg.train_dataloader.dataset.data_root = str(copy)
    cfg.train_dataloader.dataset.pipeline.insert(
        2, dict(type='CheckLabels', num_classes=4))
    cfg.train_dataloader.num_workers = 1


@pytest.mark.parametrize('change, words', [
    (unknown_hook, ['unknown hook', 'KAHok', 'KAHook']),
    (unknown_model, ['unknown model', 'EncoderDecodr', 'EncoderDecoder']),
    (unknown_backbone, ['unknown model', 'MobileNetV22', 'MobileNetV2']),
    (no_data, ['data/cityscapes', 'make demo', 'cityscapes']),
    (no_data_and_no_teacher, ['data/cityscapes', 'make demo']),
    (wrong_layer, ['botleneck', 'decode_head.bottleneck']),
    (no_checkpoint, ['nowhere.pth', 'does not exist']),
    (wrong_classes, ['student has 7 classes', 'data set has 4']),
    (missing_argument,
     ['TranslatorHook in the config: missing 1', "'teacher'"]),
    (unknown_argument, [
        'IterBasedTrainLoop in the config', "'maxiters'",
        'did you mean max_iters'
    ]),
    (no_training, ['has no train_dataloader']),
    (unknown_stage, ['stage:translatr', 'did you mean translator']),
    (bad_label, ['labels/', '9']),
],
                         ids=lambda value: getattr(value, '__name__', ''))
def test_a_mistake_is_one_line(call, config, tmp_path, change, words):
    edit(tmp_path, change)
    status, _, err = call('train', config)
    assert status == 2
    error = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(error) == 1 and len(error[0]) < 500, err
    for word in words:
        assert word in error[0]
    assert 'Traceback' not in err


def test_mistakes_in_the_arguments(call, config, tmp_path, student_checkpoint):
    for arguments, word in [(('none.py', ), 'does not exist'),
                            (('broken.py', ), 'cannot be read'),
                            (('orphan.py', ), 'cannot be read')]:
        (tmp_path / 'broken.py').write_text('model = dict(')
        (tmp_path / 'orphan.py').write_text("_base_ = 'nobody.py'")
        status, _, err = call('train', *arguments)
        assert status == 2 and word in err and len(err.splitlines()) == 1
    (tmp_path / 'junk.pth').write_bytes(b'junk')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    for checkpoint, word in [('none.pth', 'does not exist'),
                             ('junk.pth', 'not readable'),
                             ('empty.pth', 'weights are missing')]:
        status, _, err = call('test', config, checkpoint)
        assert status == 2 and word in err and len(err.splitlines()) == 1
    status, _, err = call('test', config, student_checkpoint, '--cfg-options',
                          'test_dataloader=None', 'test_evaluator=None',
                          'test_cfg=None')
    assert status == 2 and 'ka.py has no test_dataloader: write' in err


# -- where a run goes, and what it goes on with ----------------------------


def short(tmp_path, **changes):
    """KD alone: one stage, two iterations, no validation."""
    cfg = Config.fromfile(str(tmp_path / 'ka.py'))
    cfg.pop('stages')
    cfg.custom_hooks[1] = dict(type='KDHook')
    cfg.train_cfg.max_iters = 2
    cfg.default_hooks.checkpoint.interval = 1
    cfg.merge_from_dict(changes)
    return cfg


def write(cfg, path):
    path.parent.mkdir(exist_ok=True)
    cfg.dump(str(path))


def test_the_configs_own_work_dir(call, config, tmp_path):
    write(short(tmp_path, work_dir='elsewhere/run'), tmp_path / 'own.py')
    assert call('train', 'own.py')[0] == 0
    assert (tmp_path / 'elsewhere/run/iter_2.pth').exists()
    assert call('train', 'own.py', '--work-dir', 'given')[0] == 0
    assert (tmp_path / 'given/iter_2.pth').exists()
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.filterwarnings('ignore:the teacher .* is that of all folds')
def test_a_fold_has_a_folder_and_settings_of_its_own(call, config, tmp_path):
    folds = dict(a=dict(train_cfg=dict(max_iters=1)))
    write(short(tmp_path, folds=folds), tmp_path / 'f.py')
    # a single teacher for all folds: its checkpoint is under no work_dirs
    assert call('train', 'f.py', '--fold', 'a')[0] == 0
    assert {p.name for p in (tmp_path / 'work_dirs').iterdir()} == {'f_a'}
    assert (tmp_path / 'work_dirs/f_a/iter_1.pth').exists()
    status, _, err = call('train', 'f.py', '--fold', 'b')
    assert status == 2 and "no fold 'b'; there are: a" in err


def test_two_configs_of_one_name(call, config, tmp_path):
    """The second is not the first's continuation, whatever their name."""
    write(short(tmp_path), tmp_path / 'a/kd.py')
    write(short(tmp_path, randomness=dict(seed=5)), tmp_path / 'b/kd.py')
    assert call('train', 'a/kd.py')[0] == 0
    status, _, err = call('train', 'b/kd.py')
    assert status == 2 and 'a/kd.py, not ' in err and 'randomness.seed' in err
    assert call('train', 'b/kd.py', '--work-dir', 'other')[0] == 0
    status, out, _ = call('train', 'a/kd.py')
    assert status == 0 and 'nothing to do' in out
    # the same settings elsewhere are the same run
    (tmp_path / 'a/kd.py').rename(tmp_path / 'kd.py')
    status, out, _ = call('train', 'kd.py')
    assert status == 0 and 'nothing to do' in out


def test_resume_is_no_start_from_other_weights(call, config, tmp_path):
    write(short(tmp_path), tmp_path / 'kd.py')
    assert call('train', 'kd.py')[0] == 0
    status, _, err = call('train', 'kd.py', '--work-dir', 'new', '--resume',
                          '--cfg-options', 'load_from=work_dirs/kd/iter_2.pth')
    assert status == 2 and 'give one of them' in err
    assert not (tmp_path / 'new').exists()
    status, _, err = call('train', 'kd.py', '--work-dir', 'new',
                          '--cfg-options', 'load_from=work_dirs/kd/iter_2.pth')
    assert status == 0, err


def test_resume_with_checkpoints_elsewhere(call, config, tmp_path):
    cfg = short(tmp_path)
    cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'far')
    write(cfg, tmp_path / 'kd.py')
    assert call('train', 'kd.py')[0] == 0
    record = tmp_path / 'work_dirs/kd/run.json'
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, 'finished': False}))
    (tmp_path / 'far/kd').rename(tmp_path / 'kept')
    status, _, err = call('train', 'kd.py', '--resume')
    assert status == 2 and 'far/kd/iter_2.pth, is not there' in err
    (tmp_path / 'kept').rename(tmp_path / 'far/kd')
    (tmp_path / 'far/kd/iter_2.pth').unlink()
    status, out, _ = call('train', 'kd.py', '--resume')
    assert status == 0 and 'far/kd/iter_2.pth is missing' in out
    (tmp_path / 'work_dirs/kd/last_checkpoint').write_text('')
    status, out, _ = call('train', 'kd.py', '--resume')
    assert status == 0 and 'nothing to do' in out
    record.write_text(json.dumps({**content, 'finished': False}))
    (tmp_path / 'work_dirs/kd/last_checkpoint').unlink()
    for path in (tmp_path / 'far/kd').glob('iter_*.pth'):
        path.unlink()
    status, out, _ = call('train', 'kd.py', '--resume')
    assert status == 0 and 'there is nothing to resume' in out


def test_missing_checkpoints_say_which_there_are(call, config, tmp_path):
    write(short(tmp_path), tmp_path / 'kd.py')
    assert call('train', 'kd.py')[0] == 0
    status, _, err = call('test', 'kd.py', 'work_dirs/kd/iter_9.pth')
    assert status == 2
    assert 'work_dirs/kd has iter_1.pth, iter_2.pth' in err
    status, _, err = call('train', 'kd.py', '--work-dir', 'new',
                          '--cfg-options', 'custom_hooks.0.model=kd.py',
                          'custom_hooks.0.checkpoint=work_dirs/kd/x.pth')
    assert status == 2 and 'has iter_1.pth' in err
    assert 'seg-kd train kd.py' in err


def test_hooks_and_samplers_given_as_classes(call, config, tmp_path):
    """As good as their names: the same weights, and they are evaluated."""
    from mmengine.dataset import InfiniteSampler

    from seg_kd.engine.evaluate import evaluate_student, evaluate_teacher
    from seg_kd.engine.stages import run_stages
    from seg_kd.hooks import KDHook, TeacherHook
    named, classes = short(tmp_path), short(tmp_path)
    classes.custom_hooks[0].type = TeacherHook
    classes.custom_hooks[1].type = KDHook
    classes.train_dataloader.sampler.type = InfiniteSampler
    states = []
    for name, cfg in (('named', named), ('classes', classes)):
        run_stages(cfg, str(tmp_path / name))
        states.append(
            torch.load(tmp_path / name / 'iter_2.pth',
                       weights_only=False)['state_dict'])
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    classes.work_dir = str(tmp_path / 'test')
    checkpoint = str(tmp_path / 'classes/iter_2.pth')
    assert 'mIoU' in evaluate_student(classes.copy(), checkpoint)
    assert 'mIoU' in evaluate_teacher(classes.copy())


@pytest.mark.parametrize('out', [(), ('--out', 'labels')])
def test_images_without_labels_are_shown(call, config, tmp_path, out):
    cfg = short(tmp_path)
    if out:
        cfg.test_dataloader.dataset.data_prefix.pop('seg_map_path')
    else:
        cfg.test_dataloader.dataset.data_prefix.seg_map_path = ''
    cfg.test_dataloader.dataset.pipeline.insert(2, dict(type='CheckLabels'))
    write(cfg, tmp_path / 'kd.py')
    assert call('train', 'kd.py')[0] == 0
    status, text, err = call('test', 'kd.py', 'work_dirs/kd/iter_2.pth',
                             '--show-dir', 'shown', *out)
    assert status == 0, err
    assert 'student: nothing measured, no labels' in text
    assert len(list((tmp_path / 'shown/student').rglob('*.png'))) == 3
    assert len(list((tmp_path / 'labels').rglob('*.png'))) == (3 if out else 0)


def colours(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.repeat(image[..., None], 3, 2))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize('spoil, words', [(colours, 'one channel'),
                                          (cut_off, 'labels/')])
@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_label_that_is_none_is_named(call, config, tmp_path, data_root,
                                       spoil, words, split, workers):
    import shutil
    shutil.copytree(data_root, tmp_path / 'spoilt')
    for path in (tmp_path / 'spoilt' / split / 'labels').iterdir():
        spoil(path)
    cfg = short(tmp_path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(tmp_path / 'spoilt')
        loader.num_workers = workers
    write(cfg, tmp_path / 'kd.py')
    status, _, err = call('train', 'kd.py')
    assert status == 2
    line = err.strip().splitlines()[-1]
    assert line.startswith('error: ') and f'{split}/labels/' in line
    assert words in line and 'Traceback' not in line


# -- other commands --------------------------------------------------------


def test_gradients(call, config, tmp_path):
    write(short(tmp_path), tmp_path / 'kd.py')
    assert call('train', 'kd.py')[0] == 0
    status, out, _ = call('gradients', 'kd.py', '--batches', 1)
    assert status == 0
    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in out.splitlines() if line.startswith('| decode')]
    terms = {row[1]: row for row in rows}
    assert set(terms) == {'decode.loss_ce', 'loss_kd'}
    assert terms['decode.loss_ce'][3] == '1'
    assert float(terms['loss_kd'][2]) > 0


def test_cache_deviation(call, config, tmp_path):
    cfg = short(tmp_path)
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = pipeline[:2] + pipeline[-1:]
    write(cfg, tmp_path / 'kd.py')
    status, out, err = call('cache-deviation', 'kd.py',
                            'decode_head.bottleneck', '--crop', 32, 48,
                            '--images', 2)
    assert status == 0, err
    moves = [
        line.split('|')[1].strip() for line in out.splitlines()
        if 'decode_head.bottleneck' in line
    ]
    assert moves == ['flip', 'crop', 'both']
    status, _, err = call('cache-deviation', 'kd.py', 'backbone[0]', '--crop',
                          320, 48)
    assert status == 2 and 'smaller --crop' in err

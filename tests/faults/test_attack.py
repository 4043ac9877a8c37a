"""Bad input of many kinds at every door: one line that names it, or it works.

Each case runs a command in a child process, forked from one that has imported
all. What may come of it: a line that names what is wrong, with status 2; or,
where the input is unusual and no more, the work is done.
"""
import os
import re
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TAPS, forget_instances
from PIL import Image
from test_kills import KILLS

from seg_kd import cli

pytestmark = pytest.mark.skipif(not KILLS, reason='make faults')
RNG = np.random.default_rng(0)
WORKS = ''


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    return tmp_path_factory.mktemp('attack')


@pytest.fixture
def place(ka_config, plain_config, data_root, student_checkpoint,
          teacher_checkpoint, tmp_path, monkeypatch):
    """A folder with a config, data and weights, in which commands run."""
    shutil.copytree(data_root, tmp_path / 'data')
    shutil.copy(student_checkpoint, tmp_path / 'student.pth')
    shutil.copy(teacher_checkpoint, tmp_path / 'teacher.pth')
    for cfg in (ka_config, ):
        cfg.pop('work_dir')
        cfg.pop('stages')
        cfg.train_cfg.update(max_iters=1)
        cfg.default_hooks.checkpoint.interval = 1
        for part in ('train', 'val', 'test'):
            loader = cfg[f'{part}_dataloader']
            loader.dataset.data_root = 'data'
        cfg.custom_hooks = dict(TeacherHook=dict(cfg.custom_hooks[0],
                                                 checkpoint='teacher.pth'),
                                KAHook=dict(translator=None, **TAPS))
        cfg.train_dataloader.dataset.pipeline.insert(2,
                                                     dict(type='CheckLabels'))
        cfg.dump(str(tmp_path / 'c.py'))
    (tmp_path / 'text.txt').write_text('a text that is no image ' * 9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments, folder, wait=90.):
    """Exit status of a command, None where it hung, and all it printed."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setpgrp()
            log = os.open('said.log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = open(1, 'w', buffering=1, closefd=False)
            sys.stderr = open(2, 'w', buffering=1, closefd=False)
            forget_instances()
            warnings.simplefilter('default')  # here they are errors
            status = cli.main(list(arguments))
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status if isinstance(status, int) else 1)
    until = time.monotonic() + wait
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, Path('said.log').read_text(errors='replace')
        time.sleep(.01)
    return (os.waitstatus_to_exitcode(status),
            Path('said.log').read_text(errors='replace'))


def judged(status, said, words):
    """good, vague, traceback, silent or hang; and the line it is by."""
    lines = [x for x in said.splitlines() if 'error: ' in x]
    line = lines[-1] if lines else said.strip().rpartition('\n')[2]
    if status is None:
        return 'hang', line
    if status == 1 and re.search(r'[1-9]\d* red', said):  # of doctor
        return 'good' if re.search(words, said) else 'vague', line
    if 'Traceback' in said or status not in (0, 2):
        return 'traceback', line
    if status == 0:
        return 'good' if words == WORKS or re.search(
            words, said) and words.startswith('(?#said)') else 'silent', line
    found = len(lines) == 1 and len(line) < 700 and words != WORKS and \
        re.search(words, line)
    return 'good' if found else 'vague', line


def attack(cases, place):
    """Each in a fresh copy of the folder; the bad ones are listed."""
    kinds, bad = Counter(), []
    for name, prepare, arguments, words in cases:
        folder = place / '.cases' / re.sub(r'\W', '_', name)[:60]
        shutil.copytree(place,
                        folder,
                        symlinks=True,
                        ignore=shutil.ignore_patterns('.cases'))
        os.chdir(folder)
        prepare()
        status, said = run(arguments, folder)
        kind, line = judged(status, said, words)
        kinds[kind] += 1
        if kind != 'good':
            bad.append(f'{kind}: {name}: {" ".join(arguments)!r:.150}\n    '
                       f'{status} {line!r:.400}')
        os.chdir(place)
        shutil.rmtree(folder)
    print(f'\n{dict(kinds)}', *bad, sep='\n')
    return bad


def nothing():
    pass


# -- data ------------------------------------------------------------------


def image(size=(64, 96), channels=3):
    shape = (*size, channels) if channels > 1 else size
    return RNG.integers(0, 255, shape, dtype=np.uint8)


def png(path, array, mode=None):

    def write():
        made = Image.fromarray(np.asarray(array))
        if mode:
            made = made.convert(mode)
        made.save(path, 'PNG')

    return write


def raw(path, content):
    return lambda: Path(os.fsdecode(path)).write_bytes(content)


def jpeg_as(path, orientation):
    """A photo with an orientation in its EXIF part."""

    def write():
        made = Image.fromarray(image())
        exif = made.getexif()
        exif[0x112] = orientation
        made.save(path, 'JPEG', exif=exif)

    return write


def renamed(old, new):
    return lambda: os.rename(old, new)


I1, L1 = 'data/train/images/1.png', 'data/train/labels/1.png'
IMAGES, LABELS = 'data/train/images', 'data/train/labels'


def with_label(name):
    """One more image and its label, called so."""

    def write():
        for folder in (IMAGES, LABELS):
            shutil.copy(os.fsencode(f'{folder}/1.png'),
                        os.fsencode(folder) + b'/' + name)

    return write


def both(*works):
    return lambda: [work() for work in works]


ZEROS = np.zeros((64, 96), np.uint8)
PALETTE_LABEL = Image.fromarray(ZEROS + 1, 'L').convert('P')
FILES = [
    ('zero bytes', raw(I1, b''), 'images/1.png'),
    ('zero bytes label', raw(L1, b''), 'labels/1.png'),
    ('text', raw(I1, b'hello' * 99), 'images/1.png'),
    ('zeros', raw(I1, b'\0' * 3000), 'images/1.png'),
    ('a jpeg called png', png('data/train/images/1.png', image()), WORKS),
    ('rgba', png(I1, image(channels=4)), WORKS),
    ('grey', png(I1, image(channels=1)), WORKS),
    ('16 bits', png(I1,
                    image(channels=1).astype(np.uint16) * 200), WORKS),
    ('palette', png(I1, image(channels=1), 'P'), WORKS),
    ('one bit', png(I1,
                    image(channels=1) > 99), WORKS),
    ('grey with alpha', png(I1, image(channels=1), 'LA'), WORKS),
    ('label palette', lambda: PALETTE_LABEL.save(L1), WORKS),
    ('label rgb', png(L1, image()), 'labels/1.png'),
    ('label rgba', png(L1, image(channels=4)), 'labels/1.png'),
    ('label la', png(L1, ZEROS, 'LA'), 'labels/1.png'),
    ('label one bit', png(L1, ZEROS > 0), WORKS),
    ('label 16 bits', png(L1,
                          ZEROS.astype(np.uint16) + 261), 'labels/1.png'),
    ('label 32 bits',
     lambda: Image.fromarray(ZEROS.astype(np.int32) + 70000).save(L1, 'TIFF'),
     'labels/1.png'),
    ('label of parts',
     lambda: Image.fromarray(ZEROS.astype(np.float32) + .5).save(L1, 'TIFF'),
     'labels/1.png'),
    ('label value', png(L1, ZEROS + 200), 'labels/1.png.* 200'),
    ('label of another size', png(L1, ZEROS[:, :50]), 'labels/1.png.*size'),
    ('label turned', png(L1, ZEROS.T), 'labels/1.png.*size'),
    ('image of another size', png(I1, image((64, 95))), 'labels/1.png.*size'),
    ('one pixel', both(png(I1, image((1, 1))), png(L1, ZEROS[:1, :1])), WORKS),
    ('one row', both(png(I1, image((1, 96))), png(L1, ZEROS[:1])), WORKS),
    ('exif 6', both(jpeg_as(I1, 6)), 'labels/1.png.*size.*EXIF'),
    ('exif 3', jpeg_as(I1, 3), WORKS),
    ('label in capitals', renamed(L1, LABELS + '/1.PNG'), '1.png.*1.PNG'),
    ('image in capitals', renamed(I1, IMAGES + '/1.PNG'), WORKS),
    ('label jpg', renamed(L1, LABELS + '/1.jpg'), '1.png.*1.jpg'),
    ('no label', lambda: os.remove(L1), '1 of 6 images have no label'),
    ('label for nothing', png(LABELS + '/99.png', ZEROS), WORKS),
    ('not utf-8', with_label(b'\xff\xfe.png'), 'UTF-8'),
    ('spaces and more', with_label(b"a b'\"%s[1]{x}*?.png"), WORKS),
    ('a line break', with_label(b'a\nb.png'), WORKS),
    ('emoji', with_label('\U0001f600.png'.encode()), WORKS),
    ('hidden',
     both(raw(IMAGES + '/._1.png', b'x'), raw(IMAGES + '/.DS_Store',
                                              b'x')), WORKS),
    ('other files',
     both(raw(IMAGES + '/Thumbs.db', b'x'), raw(IMAGES + '/notes.txt',
                                                b'x')), WORKS),
    ('folder of that name', lambda: os.mkdir(IMAGES + '/x.png'), WORKS),
    ('folders', lambda: os.mkdir(IMAGES + '/x'), WORKS),
    ('a loop', lambda: os.symlink('.', IMAGES + '/loop'), 'loop'),
    ('a loop above', lambda: os.symlink('..', IMAGES + '/loop'), 'loop'),
    ('a link to itself', lambda: os.symlink('x.png', IMAGES + '/x.png'),
     'x.png'),
    ('a dead link', lambda: os.symlink('gone', IMAGES + '/x.png'), 'x.png'),
    ('a pipe', lambda: os.mkfifo(IMAGES + '/x.png'), 'x.png'),
    ('label a pipe', both(lambda: os.remove(L1),
                          lambda: os.mkfifo(L1)), 'labels/1.png'),
    ('label a folder', both(lambda: os.remove(L1),
                            lambda: os.mkdir(L1)), 'labels/1.png'),
    ('no images', both(lambda: shutil.rmtree(IMAGES),
                       lambda: os.mkdir(IMAGES)), 'no image in .*images'),
    ('images a file', both(lambda: shutil.rmtree(IMAGES), raw(IMAGES,
                                                              b'')), 'images'),
    ('swapped',
     both(renamed(IMAGES, 'x'), renamed(LABELS, IMAGES),
          renamed('x', LABELS)), 'labels/.*png'),
    ('data a file', both(lambda: shutil.rmtree('data'), raw('data',
                                                            b'')), 'data'),
]


@pytest.mark.parametrize('command', ['train', 'check', 'doctor'])
def test_files_of_a_data_set(place, command):
    calls = dict(train=('train', 'c.py'),
                 check=('prepare-data', 'check', 'c.py'),
                 doctor=('doctor', 'c.py', '--batches', '3'))
    cases = [(name, prepare, calls[command], words)
             for name, prepare, words in FILES]
    if command == 'train':  # it opens them as it draws them: two batches
        others = {
            'one pixel': 'one pixel wide',
            'one row': 'one pixel wide',
            'exif 6': 'labels/1.png.*size',
            'label of parts': WORKS  # only the check looks
        }
        cases = [(n, p, (*a, '--cfg-options', 'train_cfg.max_iters=3'),
                  others.get(n, w)) for n, p, a, w in cases]
    if command == 'doctor':  # finds and goes on: a table, status 1
        cases = [(n, p, a, w.replace('.*EXIF', '')) for n, p, a, w in cases
                 if w != WORKS]
    assert not attack(cases, place)


# -- images to predict -----------------------------------------------------

OPTIONS = '--checkpoint', 'student.pth', '--out', 'out'


def P(*inputs):
    return 'predict', 'c.py', *inputs, *OPTIONS


PREDICT = [
    ('zero bytes', raw('x.png', b''), P('x.png'), 'x.png'),
    ('text', raw('x.png', b'hello' * 9), P('x.png'), 'x.png'),
    ('cut', lambda: Path('x.png').write_bytes(Path(I1).read_bytes()[:99]),
     P('x.png'), 'x.png'),
    ('rgba', png('x.png', image(channels=4)), P('x.png'), WORKS),
    ('grey', png('x.png', image(channels=1)), P('x.png'), WORKS),
    ('16 bits', png('x.png',
                    image(channels=1).astype(np.uint16) * 9), P('x.png'),
     WORKS),
    ('cmyk', lambda: Image.fromarray(image()).convert('CMYK').save('x.jpg'),
     P('x.jpg'), WORKS),
    ('exif', jpeg_as('x.jpg', 6), P('x.jpg'), WORKS),
    ('one pixel', png('x.png', image((1, 1))), P('x.png'), WORKS),
    ('capitals', png('X.PNG', image()), P('X.PNG'), WORKS),
    ('no ending', png('x', image()), P('x'), 'x is neither'),
    ('not there', nothing, P('y.png'), 'y.png does not exist'),
    ('a dead link', lambda: os.symlink('gone.png', 'x.png'), P('x.png'),
     'x.png'),
    ('a pipe', lambda: os.mkfifo('x.png'), P('x.png'), 'x.png'),
    ('an empty folder', lambda: os.mkdir('in'), P('in'), 'no image .* in'),
    ('a folder with hidden files',
     both(lambda: shutil.copytree(IMAGES, 'in'), raw('in/._1.png',
                                                     b'x')), P('in'), WORKS),
    ('a loop',
     both(lambda: shutil.copytree(IMAGES, 'in'),
          lambda: os.symlink('.', 'in/loop')), P('in'), WORKS),
    ('not utf-8', lambda: shutil.copy(os.fsencode(I1), b'\xff\xfe.png'),
     P(os.fsdecode(b'\xff\xfe.png')), 'UTF-8'),
    ('not utf-8 in a folder',
     both(lambda: os.mkdir('in'),
          lambda: shutil.copy(os.fsencode(I1), b'in/\xff\xfe.png')), P('in'),
     'UTF-8'),
    ('a line break', lambda: shutil.copy(I1, 'a\nb.png'), P('a\nb.png'),
     WORKS),
    ('the same name twice', nothing, P(I1, L1), 'same name'),
    ('the same file twice', nothing, P(I1, I1), 'same name'),
    ('no video', raw('x.mp4', b'x' * 99), P('x.mp4'), 'x.mp4'),
    ('an empty video', raw('x.mp4', b''), P('x.mp4'), 'x.mp4'),
    ('out is there', lambda: os.mkdir('out'), P(I1), 'out'),
    ('out is a file', raw('out', b''), P(I1), 'out'),
    ('out among the images', nothing,
     ('predict', 'c.py', IMAGES, '--checkpoint', 'student.pth', '--out',
      IMAGES + '/out'), WORKS),
    ('out is the images', nothing, ('predict', 'c.py', IMAGES, '--checkpoint',
                                    'student.pth', '--out', IMAGES), 'images'),
    ('no checkpoint', nothing, ('predict', 'c.py', I1, '--out', 'out'),
     'checkpoint'),
    ('an empty onnx', raw('x.onnx', b''), ('predict', 'x.onnx', I1, '--out',
                                           'out'), 'x.onnx'),
    ('no onnx', raw('x.onnx', b'abc' * 99), ('predict', 'x.onnx', I1, '--out',
                                             'out'), 'x.onnx'),
    ('onnx and a checkpoint', raw('x.onnx', b'abc'), ('predict', 'x.onnx', I1,
                                                      *OPTIONS), 'onnx'),
    ('onnx a folder', lambda: os.mkdir('x.onnx'), ('predict', 'x.onnx', I1,
                                                   '--out', 'out'), 'x.onnx'),
    ('a config as an image', nothing, P('c.py'), 'c.py is neither'),
    ('an image as a config', nothing, ('predict', I1, I1, *OPTIONS), '1.png'),
    ('weights as a config', nothing, ('predict', 'student.pth', I1, *OPTIONS),
     'student.pth'),
    ('only', nothing, (*P(I1), '--only', 'x'), 'invalid choice'),
]


def test_images_to_predict(place):
    assert not attack(PREDICT, place)


# -- checkpoints -----------------------------------------------------------


def state():
    return torch.load('student.pth', weights_only=True)['state_dict']


def saved(content):
    """Writes ``bad.pth``, made of the student's weights."""
    return lambda: torch.save(content(state()), 'bad.pth')


def changed(**changes):
    names = dict(bias='decode_head.conv_seg.bias',
                 weight='decode_head.conv_seg.weight')

    def make(weights):
        for key, change in changes.items():
            weights[names[key]] = change(weights[names[key]])
        return dict(state_dict=weights)

    return saved(make)


def cut(at):
    return lambda: Path('bad.pth').write_bytes(
        Path('student.pth').read_bytes()[:at])


WEIGHTS = [
    ('of the teacher', lambda: shutil.copy('teacher.pth', 'bad.pth'), 'bad'),
    ('nothing', raw('bad.pth', b''), 'bad.pth'),
    ('text', raw('bad.pth', b'hello there' * 99), 'bad.pth is a text'),
    ('cut', cut(5000), 'bad.pth'),
    ('cut at the end', cut(-100), 'bad.pth'),
    ('a folder', lambda: os.mkdir('bad.pth'), 'bad.pth'),
    ('an image', lambda: shutil.copy(I1, 'bad.pth'), 'bad.pth'),
    ('a list', saved(lambda w: list(w)), 'bad.pth'),
    ('a tensor', saved(lambda w: torch.ones(3)), 'bad.pth'),
    ('a number', saved(lambda w: 5), 'bad.pth'),
    ('an empty dict', saved(lambda w: {}), 'bad.pth'),
    ('no weights', saved(lambda w: dict(state_dict={})), 'bad.pth'),
    ('of an optimizer', saved(lambda w: dict(optimizer=dict(state={}))),
     'bad.pth'),
    ('twice', saved(lambda w: dict(state_dict=dict(state_dict=w))), 'bad.pth'),
    ('under model', saved(lambda w: dict(model=w)), 'bad.pth'),
    ('numbers as keys',
     saved(lambda w: dict(state_dict=dict(enumerate(w.values())))), 'bad.pth'),
    ('arrays',
     saved(lambda w: dict(state_dict={
         k: v.numpy()
         for k, v in w.items()
     })), 'bad.pth'),
    ('another prefix',
     saved(lambda w: dict(state_dict={
         f'net.{k}': v
         for k, v in w.items()
     })), 'bad.pth'),
    ('of DDP',
     saved(lambda w: dict(state_dict={
         f'module.{k}': v
         for k, v in w.items()
     })), WORKS),
    ('bare', saved(lambda w: w), WORKS),
    ('half',
     saved(lambda w: dict(state_dict={
         k: v.half() if v.is_floating_point() else v
         for k, v in w.items()
     })), WORKS),
    ('one missing',
     saved(lambda w: dict(state_dict={
         k: v
         for k, v in w.items() if 'conv_seg' not in k
     })), 'bad.pth.*conv_seg'),
    ('of more classes', changed(bias=lambda b: torch.ones(19)),
     'bad.pth.*conv_seg.bias'),
    ('a scalar', changed(bias=lambda b: torch.tensor(1.)), 'conv_seg.bias'),
    ('NaN', changed(bias=lambda b: b * torch.nan), 'NaN.*conv_seg.bias'),
    ('infinite', changed(weight=lambda b: b / 0), 'NaN.*conv_seg.weight'),
    ('whole numbers', changed(bias=lambda b: b.long()), WORKS),
    ('complex', changed(bias=lambda b: b + 1j), 'conv_seg.bias'),
    ('sparse', changed(weight=lambda b: b.to_sparse()), 'conv_seg.weight'),
    ('on no device', changed(weight=lambda b: b.to('meta')),
     'conv_seg.weight'),
    ('meta a list', saved(lambda w: dict(state_dict=w, meta=[1])), 'bad.pth'),
    ('meta of odd classes',
     saved(lambda w: dict(state_dict=w,
                          meta=dict(dataset_meta=dict(classes=5)))), WORKS),
]
CALLS = dict(
    test=('test', 'c.py', 'bad.pth'),
    predict=('predict', 'c.py', I1, '--checkpoint', 'bad.pth', '--out', 'out'),
    export=('export', 'c.py', 'bad.pth', '--out', 'out'),
    load=('train', 'c.py', '--cfg-options', 'load_from=bad.pth'),
)


@pytest.mark.parametrize('command', CALLS)
def test_weights(place, command):
    some = {'one missing', 'of more classes', 'a scalar', 'of the teacher'}
    cases = []
    for name, prepare, words in WEIGHTS:
        if command == 'load' and name in some:
            words = WORKS  # in part, and said
        if command == 'predict' and name == 'meta a list':
            words = words
        cases.append((name, prepare, CALLS[command], words))
    assert not attack(cases, place)


TEACHERS = [(name, prepare, words) for name, prepare, words in WEIGHTS
            if words != WORKS and name != 'of the teacher']


def test_weights_of_a_teacher(place):
    """The student's, and what is made of them, where a teacher's are due."""
    option = 'custom_hooks.TeacherHook.checkpoint=bad.pth'
    cases = [(name, prepare, ('train', 'c.py', '--cfg-options', option),
              'bad.pth') for name, prepare, _ in TEACHERS]
    assert not attack(cases, place)


# -- settings --------------------------------------------------------------

SETTINGS = [
    ('model.backbone.out_indices=[]', 'backbone'),
    ('model.backbone.out_indices=[9]', 'out_indices'),
    ('model.backbone.widen_factor=0.2', 'channels|decode_head'),
    ('model.backbone.strides=[1,2]', 'strides'),
    ('model.backbone.norm_cfg.type=XN', 'norm_cfg'),
    ('model.backbone.norm_cfg=BN', 'norm_cfg'),
    ('model.backbone={}', 'backbone'),
    ('model.decode_head.in_index=7', 'in_index|decode_head'),
    ('model.decode_head.in_index=[0,1]', 'in_index|in_channels'),
    ('model.decode_head.in_channels=33', 'decode_head|channels'),
    ('model.decode_head.in_channels=[32]', 'in_channels'),
    ('model.decode_head.channels=0', 'channels'),
    ('model.decode_head.num_classes=3', 'classes'),
    ('model.decode_head.num_classes=0', 'num_classes'),
    ('model.decode_head.num_classes=5', 'classes'),
    ('model.decode_head.dropout_ratio=2', 'dropout_ratio'),
    ('model.decode_head.num_convs=-1', 'num_convs'),
    ('model.decode_head.kernel_size=0', WORKS),
    ('model.decode_head.loss_decode=[]', 'loss_decode'),
    ('model.decode_head.loss_decode.class_weight=[1.0]', 'class_weight'),
    ('model.decode_head.loss_decode.class_weight=5', 'class_weight'),
    ('model.decode_head.loss_decode.loss_weight=-1', 'loss_weight'),
    ('model.decode_head.ignore_index=3', 'a label'),
    ('model.decode_head.align_corners=yes', 'align_corners'),
    ('model.auxiliary_head.type=FCNHead', 'FCNHead.*in_channels'),
    ('model.data_preprocessor.size=[0,0]', 'size'),
    ('model.data_preprocessor.size=[64]', 'size'),
    ('model.data_preprocessor.size=64', 'size'),
    ('model.data_preprocessor.size=[8,8]', WORKS),
    ('model.data_preprocessor.mean=[1,2]', 'mean'),
    ('model.data_preprocessor.mean=[]', 'mean'),
    ('model.data_preprocessor.std=[0,0,0]', 'std'),
    ('model.data_preprocessor.std=[-1,1,1]', 'std'),
    ('model.data_preprocessor.std=[a,b,c]', 'std'),
    ('model.data_preprocessor={}', 'data_preprocessor'),
    ('model.test_cfg.mode=slide', 'crop_size|test_cfg'),
    ('model.test_cfg={}', 'test_cfg'),
    ('model.type=Encoder', 'EncoderDecoder'),
    ('model=[]', 'model'),
    ('train_dataloader.batch_size=[2]', 'batch_size'),
    ('train_dataloader.batch_size=2.5', 'batch_size'),
    ('train_dataloader.batch_size=two', 'batch_size'),
    ('train_dataloader.persistent_workers=True', 'persistent_workers'),
    ('train_dataloader.prefetch_factor=0', 'prefetch_factor'),
    ('train_dataloader.timeout=-1', 'timeout'),
    ('train_dataloader.drop_last=maybe', 'drop_last'),
    ('train_dataloader.sampler={}', 'sampler'),
    ('train_dataloader.sampler.type=Random', 'Random'),
    ('train_dataloader.sampler.shuffle=5', 'shuffle'),
    ('train_dataloader.sampler=[]', 'sampler'),
    ('train_dataloader.collate_fn.type=none', 'collate_fn|none'),
    ('train_dataloader.dataset={}', 'dataset'),
    ('train_dataloader.dataset=[]', 'dataset'),
    ('train_dataloader.dataset.pipeline=[]', 'pipeline'),
    ('train_dataloader.dataset.pipeline=5', 'pipeline'),
    ('train_dataloader.dataset.pipeline.0.type=Load', 'Load'),
    ('train_dataloader.dataset.pipeline.1.type=PackSegInputs', 'pipeline'),
    ('train_dataloader.dataset.img_suffix=', 'img_suffix|label'),
    ('train_dataloader.dataset.img_suffix=png', 'img_suffix'),
    ('train_dataloader.dataset.img_suffix=.jpg', "img_suffix|ends in"),
    ('train_dataloader.dataset.img_suffix=5', 'img_suffix'),
    ('train_dataloader.dataset.seg_map_suffix=.gif', 'label file'),
    ('train_dataloader.dataset.data_prefix={}', 'data_prefix|no image'),
    ('train_dataloader.dataset.data_prefix.img_path=', 'label file|images'),
    ('train_dataloader.dataset.data_prefix.seg_map_path=train/images',
     'images/.*png'),
    ('train_dataloader.dataset.ann_file=nolist.txt', 'nolist.txt'),
    ('train_dataloader.dataset.ann_file=../text.txt', 'text'),
    ('train_dataloader.dataset.metainfo.classes=[]', 'classes'),
    ('train_dataloader.dataset.metainfo.classes=[a,b]', 'classes|palette'),
    ('train_dataloader.dataset.metainfo.classes=5', 'classes'),
    ('train_dataloader.dataset.metainfo.classes=gone.txt', 'gone.txt|classes'),
    ('train_dataloader.dataset.metainfo.palette=[[1,2]]', 'palette'),
    ('train_dataloader.dataset.reduce_zero_label=maybe', 'reduce_zero'),
    ('train_dataloader.dataset.indices=0', 'no image|indices'),
    ('train_dataloader.dataset.indices=-5', WORKS),
    ('train_dataloader.dataset.indices=99999', WORKS),
    ('train_dataloader.dataset.type=Cityscape', 'Cityscape'),
    ('train_dataloader.unlabelled.img_path=gone', 'gone'),
    ('train_dataloader.unlabelled.ratio=1', 'img_path'),
    ('train_cfg.type=Loop', 'Loop'),
    ('train_cfg.val_interval=0', 'val_interval'),
    ('train_cfg.val_begin=-1', 'val_begin'),
    ('train_cfg.max_iters=[1]', 'max_iters'),
    ('train_cfg.max_iters=True', 'max_iters'),
    ('train_cfg.max_epochs=1', 'max_epochs'),
    ('train_cfg={}', 'train_cfg'),
    ('val_evaluator.iou_metrics=[]', 'iou_metrics'),
    ('val_evaluator.iou_metrics=[mIoUU]', 'mIoUU'),
    ('val_evaluator.type=Acc', 'Acc'),
    ('val_evaluator={}', 'val_evaluator'),
    ('val_dataloader=None', 'val_'),
    ('val_cfg=None', 'val_'),
    ('optim_wrapper.optimizer={}', 'optimizer'),
    ('optim_wrapper.optimizer.type=SGDD', 'SGD'),
    ('optim_wrapper.optimizer.lr=[1]', 'lr'),
    ('optim_wrapper.optimizer.lr=1e400', 'lr'),
    ('optim_wrapper.optimizer.momentum=2', 'momentum'),
    ('optim_wrapper.optimizer.weight_decay=-1', 'weight_decay'),
    ('optim_wrapper.optimizer.nesterov=7', 'nesterov'),
    ('optim_wrapper.accumulative_counts=0', 'accumulative_counts'),
    ('optim_wrapper.accumulative_counts=50', 'accumulative_counts'),
    ('optim_wrapper.clip_grad.max_norm=0', 'max_norm'),
    ('optim_wrapper.clip_grad=1', 'clip_grad'),
    ('optim_wrapper.type=AmpOptimWrapper', 'AmpOptimWrapper'),
    ('optim_wrapper.type=Wrapper', 'Wrapper'),
    ('optim_wrapper.constructor=None', 'constructor'),
    ('optim_wrapper=[]', 'optim_wrapper'),
    ('param_scheduler.0.type=Poly', 'Poly'),
    ('param_scheduler.0.end=-1', 'end'),
    ('param_scheduler.0.begin=9', 'begin|end'),
    ('param_scheduler.0.power=-1', 'power'),
    ('param_scheduler.0.eta_min=-1', 'eta_min'),
    ('param_scheduler={}', 'param_scheduler'),
    ('param_scheduler=5', 'param_scheduler'),
    ('default_hooks.checkpoint.interval=0', 'interval'),
    ('default_hooks.checkpoint.interval=-5', 'interval|checkpoint'),
    ('default_hooks.checkpoint.interval=1.5', 'interval'),
    ('default_hooks.checkpoint.max_keep_ckpts=0', 'max_keep_ckpts'),
    ('default_hooks.checkpoint.save_best=5', 'save_best'),
    ('default_hooks.checkpoint.filename_tmpl=x', 'filename_tmpl'),
    ('default_hooks.checkpoint.out_dir=text.txt', 'text.txt'),
    ('default_hooks.checkpoint=5', 'checkpoint'),
    ('default_hooks.logger.interval=0', 'interval'),
    ('default_hooks.logger.interval=-1', 'interval'),
    ('default_hooks.logger=x', 'logger'),
    ('default_hooks.timer={}', 'timer'),
    ('log_processor.window_size=0', 'window_size'),
    ('log_processor.window_size=-1', 'window_size'),
    ('log_processor.custom_cfg=5', 'custom_cfg'),
    ('visualizer.vis_backends=[]', WORKS),
    ('visualizer.type=Vis', 'Vis'),
    ('env_cfg.cudnn_benchmark=maybe', 'cudnn_benchmark'),
    ('env_cfg.mp_cfg.mp_start_method=spoon', 'mp_start_method|spoon'),
    ('env_cfg.mp_cfg.opencv_num_threads=-3', 'opencv_num_threads'),
    ('env_cfg=5', 'env_cfg'),
    ('randomness.seed=99999999999', 'seed'),
    ('randomness.seed=1.5', 'seed'),
    ('randomness={}', 'changes nothing'),
    ('resume=True', WORKS),
    ('load_from=text.txt', 'text.txt'),
    ('load_from=nope.pth', 'nope.pth'),
    ('load_from=mmcls://nope', 'nope'),
    ('load_from=ftp://x/y.pth', 'ftp'),
    ('load_from=5', 'load_from'),
    ('auto_scale_lr.enable=True', 'base_batch_size|auto_scale_lr'),
    ('auto_scale_lr.base_batch_size=0', 'base_batch_size'),
    ('launcher=pytorch', '--launcher'),
    ('model_wrapper_cfg.type=DDP', 'DDP'),
    ('custom_imports.imports=[nope]', 'config file'),
    ('stages.x.custom_hooks=[]', WORKS),
    ('stages=[1]', 'stages'),
    ('folds=5', 'folds'),
    ('compile=maybe', 'compile'),
    ('activation_checkpointing=[nope]', 'nope'),
    ('tta_model=5', 'tta_model'),
    # the teacher and the terms
    ('custom_hooks.TeacherHook.model=nope.py', 'nope.py'),
    ('custom_hooks.TeacherHook.model=text.txt', 'text.txt'),
    ('custom_hooks.TeacherHook.model={}', 'model'),
    ('custom_hooks.TeacherHook.model=mmseg::nope.py', 'nope.py'),
    ('custom_hooks.TeacherHook.model.decode_head.channels=13', 'channels|fit'),
    ('custom_hooks.TeacherHook.checkpoint=student.pth', 'student.pth'),
    ('custom_hooks.TeacherHook.checkpoint=.', r'checkpoint \.|does not'),
    ('custom_hooks.TeacherHook.checkpoint=http://127.0.0.1:9/x.pth',
     'download'),
    ('custom_hooks.TeacherHook.checkpoint=None', 'checkpoint'),
    ('custom_hooks.TeacherHook.precision=float8', 'precision'),
    ('custom_hooks.TeacherHook.teacher_mode=train', 'teacher_mode'),
    ('custom_hooks.TeacherHook.cache=5', 'cache'),
    ('custom_hooks.TeacherHook.cache.max_gib=-1', 'max_gib'),
    ('custom_hooks.TeacherHook.cache.dtype=int8', 'dtype'),
    ('custom_hooks.TeacherHook.cache.folder=text.txt', WORKS),
    ('custom_hooks.TeacherHook.compile=5', 'compile'),
    ('custom_hooks.TeacherHook.evaluate=7', 'evaluate'),
    ('custom_hooks.TeacherHook.name=', WORKS),
    ('custom_hooks.TeacherHook=None', 'teacher'),
    ('custom_hooks.KAHook.student=[]', 'student'),
    ('custom_hooks.KAHook.student=5', 'student'),
    ('custom_hooks.KAHook.student=', 'layer'),
    ('custom_hooks.KAHook.student=backbone[-9]', 'backbone'),
    ('custom_hooks.KAHook.student=[backbone[0],backbone[1]]', 'student|ka'),
    ('custom_hooks.KAHook.teacher=decode_head.conv_seg:output', 'layer path'),
    ('custom_hooks.KAHook.teacher_name=bob', 'bob'),
    ('custom_hooks.KAHook.weight=[]', 'weight'),
    ('custom_hooks.KAHook.weight=-2', 'weight'),
    ('custom_hooks.KAHook.weight=None', 'weight'),
    ('custom_hooks.KAHook.start=-1', 'start'),
    ('custom_hooks.KAHook.start=many', 'start'),
    ('custom_hooks.KAHook.end=0.5', 'end'),
    ('custom_hooks.KAHook.warmup=-1', 'warmup'),
    ('custom_hooks.KAHook.name=loss', 'loss'),
    ('custom_hooks.KAHook.name=a.b', 'a.b'),
    ('custom_hooks.KAHook.translator=teacher.pth', 'teacher.pth'),
    ('custom_hooks.KAHook.translator=gone.pth', 'gone.pth'),
    ('custom_hooks.KAHook.translator=stage:none', 'stage:none'),
    ('custom_hooks.KAHook.p=0', 'p'),
    ('custom_hooks.KAHook.p=two', 'p'),
    ('custom_hooks.KAHook.affinity_weight=-1', 'affinity_weight'),
    ('custom_hooks.KAHook.loss=5', 'loss'),
    ('custom_hooks.KAHook.loss.nope=5', 'nope'),
    ('custom_hooks.KAHook.type=KDHook', 'KDHook|adapt|translator'),
    ('custom_hooks.KAHook=None', 'alone'),
    ('custom_hooks.KAHook=5', 'KAHook'),
    ('custom_hooks.KD.weight=1', 'KD'),
    ('custom_hooks.CRDHook.k=0', 'CRDHook'),
    ('custom_hooks.EMAHook.momentum=7', 'momentum'),
    ('custom_hooks.EarlyStoppingHook.monitor=nope', 'nope'),
]


def test_settings(place):
    cases = [(option, nothing, ('train', 'c.py', '--cfg-options', option),
              words) for option, words in SETTINGS]
    assert not attack(cases, place)


# -- config files and command lines ----------------------------------------


def cfg(text, name='x.py'):
    return lambda: Path(name).write_text(text)


def dumped(name):
    """The config in another format."""

    def write():
        from mmengine.config import Config
        found = Config.fromfile('c.py')
        found.dump(name)

    return write


LINES = [
    ('yaml with types', dumped('x.yaml'), ('train', 'x.yaml'), 'x.yaml'),
    ('json', dumped('x.json'), ('train', 'x.json'), WORKS),
    ('a yaml list', cfg('- a\n- b\n', 'x.yaml'), ('train', 'x.yaml'), 'x.y'),
    ('yaml of nothing', cfg('', 'x.yaml'), ('train', 'x.yaml'), 'x.yaml'),
    ('yaml with tabs', cfg('a:\n\tb: 1',
                           'x.yaml'), ('train', 'x.yaml'), 'x.yaml'),
    ('json cut', cfg('{"model": ', 'x.json'), ('train', 'x.json'), 'x.json'),
    ('json a number', cfg('5', 'x.json'), ('train', 'x.json'), 'x.json'),
    ('base a number', cfg('_base_ = 5'), ('train', 'x.py'), 'x.py'),
    ('base of nothing', cfg("_base_ = ''"), ('train', 'x.py'), 'x.py'),
    ('base a folder', cfg("_base_ = 'data'"), ('train', 'x.py'), 'data'),
    ('an endless config', cfg('raise RecursionError'), ('train', 'x.py'),
     'x.py'),
    ('a config that leaves', cfg('raise SystemExit(0)'), ('train', 'x.py'),
     'x.py'),
    ('a config that asks', cfg('x = input()'), ('train', 'x.py'), 'x.py'),
    ('bytes', lambda: Path('x.py').write_bytes(b'\0\0'), ('train', 'x.py'),
     'x.py'),
    ('a name of spaces', cfg('a = 1',
                             'a b.py'), ('train', 'a b.py'), 'no model'),
    ('a name with a dot', cfg('a = 1',
                              'a.b.py'), ('train', 'a.b.py'), r'a\.b'),
    ('no class', cfg("model = dict(type='EncoderDecoder')"), ('train', 'x.py'),
     'model|train'),
    ('a function', cfg("def f(): pass\nmodel = dict(type=f)"),
     ('train', 'x.py'), 'no train_dataloader'),
    ('an object', cfg('model = object()'), ('train', 'x.py'), 'model'),
    ('a cycle', cfg('model = dict()\nmodel["a"] = model'), ('train', 'x.py'),
     'x.py|model'),
    ('work_dir a file', nothing, ('train', 'c.py', '--work-dir', 'c.py'),
     'c.py is a file'),
    ('work_dir below a file', nothing, ('train', 'c.py', '--work-dir',
                                        'c.py/a'), 'c.py'),
    ('work_dir of nothing', nothing, ('train', 'c.py', '--work-dir', ''),
     'work'),
    ('work_dir too long', nothing, ('train', 'c.py', '--work-dir', 'x' * 300),
     'name'),
    ('work_dir on /proc', nothing, ('train', 'c.py', '--work-dir', '/proc/x'),
     '/proc/x'),
    ('work_dir with a null', nothing, ('train', 'c.py', '--work-dir', 'a\0b'),
     'null|work'),
    ('work_dir not utf-8', nothing, ('train', 'c.py', '--work-dir',
                                     os.fsdecode(b'w\xff')), 'UTF-8'),
    ('work_dir of marks', nothing, ('train', 'c.py', '--work-dir',
                                    'a %d{x} [1]'), WORKS),
    ('resume what is not', nothing, ('train', 'c.py', '--resume'), WORKS),
    ('test nothing', nothing, ('test', 'c.py'), 'checkpoint'),
    ('test --out', lambda: os.mkdir('o'), ('test', 'c.py', 'student.pth',
                                           '--out', 'o'), WORKS),
    ('doctor of an image', nothing, ('doctor', I1), '1.png'),
    ('doctor of nothing', nothing, ('doctor', 'gone.py'), 'gone.py'),
    ('doctor stage', nothing, ('doctor', 'c.py', '--stage', 'x'), "'x'"),
    ('doctor batches', nothing, ('doctor', 'c.py', '--batches', '-1'),
     'batches'),
    ('doctor student', nothing, ('doctor', 'c.py', '--student', 'text.txt'),
     'text.txt'),
    ('doctor json', nothing, ('doctor', 'c.py', '--json', 'no/x'), 'no/x'),
    ('doctor replay', nothing, ('doctor', '--replay', 'student.pth'),
     'student.pth'),
    ('doctor replay and a config', nothing, ('doctor', 'c.py', '--replay',
                                             'student.pth'), 'replay'),
    ('report of a file', nothing, ('report', 'c.py'), 'c.py'),
    ('report of data', nothing, ('report', 'data'), 'data'),
    ('report of nothing', nothing, ('report', ), 'work_dir|WORK_DIR|ledger'),
    ('report ledger', cfg('{"a": 1}\n', 'l.jsonl'), ('report', '--ledger',
                                                     'l.jsonl'), 'l.jsonl'),
    ('report ledger list', cfg('[]\n', 'l.jsonl'), ('report', '--ledger',
                                                    'l.jsonl'), 'l.jsonl'),
    ('report ledger empty', cfg('', 'l.jsonl'), ('report', '--ledger',
                                                 'l.jsonl'), 'l.jsonl'),
    ('report ledger bytes', lambda: Path('l.jsonl').write_bytes(b'\xff\0'),
     ('report', '--ledger', 'l.jsonl'), 'l.jsonl'),
    ('report out', nothing, ('report', 'data', '--out', 'data'), 'data'),
    ('report checkpoint', nothing, ('report', 'data', '--checkpoint', 'x'),
     'RUN=FILE|x'),
    ('export out', raw('o', b''), ('export', 'c.py', 'student.pth', '--out',
                                   'o'), 'o'),
    ('export size', nothing, ('export', 'c.py', 'student.pth', '--out', 'o',
                              '--size', '1', 'x'), 'size'),
    ('export split', nothing, ('export-split', 'c.py', 'student.pth', '--out',
                               'o', '--size', '64', '96'), 'SplitSegmentor'),
    ('gradients', nothing, ('gradients', 'c.py', '--batches', 'x'), 'batches'),
    ('cache', nothing, ('cache-deviation', 'c.py'), 'cache|exact|albu'),
    ('pseudo threshold', nothing, ('prepare-data', 'pseudo-labels', 'c.py',
                                   IMAGES, '--out', 'o', '--threshold', '2'),
     'threshold'),
    ('pseudo nan', nothing, ('prepare-data', 'pseudo-labels', 'c.py', IMAGES,
                             '--out', 'o', '--threshold', 'nan'), 'threshold'),
    ('pseudo nothing', nothing, ('prepare-data', 'pseudo-labels', 'c.py',
                                 'gone', '--out', 'o'), 'gone'),
    ('pseudo broken', raw(I1, b''), ('prepare-data', 'pseudo-labels', 'c.py',
                                     IMAGES, '--out', 'o'), '1.png'),
    ('pseudo hidden', raw(IMAGES + '/._1.png', b''),
     ('prepare-data', 'pseudo-labels', 'c.py', IMAGES, '--out', 'o'), WORKS),
    ('pseudo out a file', raw('o', b''), ('prepare-data', 'pseudo-labels',
                                          'c.py', IMAGES, '--out', 'o'), 'o'),
    ('pseudo loop', lambda: os.symlink('.', IMAGES + '/loop'),
     ('prepare-data', 'pseudo-labels', 'c.py', IMAGES, '--out', 'o'), WORKS),
    ('pseudo mixed', renamed(I1, IMAGES + '/1.PNG'),
     ('prepare-data', 'pseudo-labels', 'c.py', IMAGES, '--out',
      'o'), 'end in'),
    ('check nothing', nothing, ('prepare-data', 'check', ''),
     'neither|config'),
    ('check root', nothing, ('prepare-data', 'check', 'camvid', '--root',
                             'gone'), 'gone'),
    ('camvid of data', nothing, ('prepare-data', 'camvid', 'data', '--out',
                                 'o'), 'data'),
    ('voc of texts', nothing, ('prepare-data', 'voc', 'text.txt', 'text.txt',
                               '--out', 'o'), 'text'),
    ('synthetic size', nothing, ('prepare-data', 'synthetic', '--size', '0x5',
                                 '--out', 'o'), 'size'),
    ('synthetic huge', nothing, ('prepare-data', 'synthetic', '--size',
                                 '999999x999999', '--out', 'o'), 'size'),
    ('compare a number', nothing, ('compare', '5'), '5'),
    ('compare a text', nothing, ('compare', 'text.txt'), 'text.txt'),
    ('compare twice', nothing, ('compare', 'kd', 'kd', '--max-iters', '1',
                                '--minutes', '0.0001'),
     'data/synthetic is missing'),
    ('compare table', nothing, ('compare', '--table'), 'ledger'),
    ('compare ledger', cfg('x',
                           'l'), ('compare', '--table', '--ledger', 'l'), 'l'),
    ('configs', nothing, ('configs', 'nope'), 'nope'),
    ('benchmark', nothing, ('benchmark', 'nope'), 'invalid choice|nope'),
    ('benchmark config', nothing, ('benchmark', 'step', 'text.txt'),
     'text.txt'),
    ('no command', nothing, ('trian', ), 'train'),
    ('an option alone', nothing, ('--version', ), 'version'),
]


def test_files_and_lines(place):
    assert not attack(LINES, place)

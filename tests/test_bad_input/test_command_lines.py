"""Command lines that cannot be meant: 2, one line that says why, no trace."""

import re

import numpy as np
import pytest
from conftest import run_tool
from mmengine.hooks import Hook
from PIL import Image

from seg_kd import cli
from seg_kd.errors import UserError
from seg_kd.registry import HOOKS, config_of_file

DATA = 'train_dataloader.dataset.data_root=nowhere'


@pytest.fixture
def call(ka_config, tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own; what it printed as an error."""
    ka_config.pop('work_dir')
    ka_config.dump(str(tmp_path / 'ka.py'))
    for name, text in (('broken', 'model = dict('), ('fails', '1 / 0'),
                       ('orphan', "_base_ = 'nobody.py'"),
                       ('circle', "_base_ = 'circle.py'"),
                       ('unknown', 'x = y'), ('raises', 'raise OSError(5)'),
                       ('empty', ''), ('imports', 'import not_there'),
                       ('changes', 'changes = 5\nmodel = dict()')):
        (tmp_path / f'{name}.py').write_text(text)
    (tmp_path / 'bytes.py').write_bytes(b'\xff\xfe\0')
    (tmp_path / 'bad.yaml').write_text('a: [1')
    (tmp_path / 'text.txt').write_text('x')
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / 'x.png')
    before = {str(p) for p in tmp_path.rglob('*')}

    def run(*arguments):
        status = run_tool(arguments[0], arguments[1:], monkeypatch, tmp_path)
        shown = capsys.readouterr().err
        assert status == 2, shown
        assert 'Traceback' not in shown
        assert {str(p) for p in tmp_path.rglob('*')} == before
        return [x for x in shown.splitlines() if 'error: ' in x]

    return run


LINES = [
    # a config that is none
    *[(('train', f'{name}.py'), f'{name}.*cannot be read')
      for name in ('broken', 'fails', 'orphan', 'unknown', 'raises', 'imports',
                   'bytes')],
    (('train', 'circle.py'), 'circle.py is a base of itself'),
    (('train', 'bad.yaml'), 'bad.yaml.*cannot be read'),
    (('train', 'text.txt'), 'text.txt.*cannot be read'),
    (('train', 'empty.py'), 'empty.py has no model'),
    (('train', 'changes.py'), 'changes'),
    (('train', 'nothing.py'), 'nothing.py does not exist'),
    (('train', 'ka_deeplap'), 'did you mean ka_deeplab'),
    (('train', '.'), r'\. does not exist'),
    # options
    *[(('train', 'ka.py', '--cfg-options', option), words)
      for option, words in (
          ('foo', 'foo: KEY=VALUE is wanted'),
          ('=3', 'KEY=VALUE is wanted'),
          ('.a=3', 'KEY=VALUE is wanted'),
          ('a..b=3', 'KEY=VALUE is wanted'),
          ('lr=0.1', "no 'lr'.*did you mean optim_wrapper.optimizer.lr"),
          ('max_iters=5', 'did you mean train_cfg.max_iters'),
          ('optim_wraper.optimizer.lr=1', "no 'optim_wraper'"),
          ('optim_wrapper.optimizer.lr=fast', 'lr: a number from 0 on'),
          ('optim_wrapper.optimizer.lr=-1', 'lr: a number from 0 on'),
          ('optim_wrapper.optimizer.lr=nan', 'lr: a number from 0 on'),
          ('optim_wrapper.optimizer.lr=inf', 'lr: a number from 0 on'),
          ('train_cfg.max_iters=0', 'max_iters: a whole number from 1'),
          ('train_cfg.max_iters=-5', 'max_iters: a whole number from 1'),
          ('train_cfg.max_iters=1e3', 'max_iters: a whole number from 1'),
          ('train_cfg=5', 'train_cfg'),
          ('train_dataloader.batch_size=0', 'batch_size: a whole number'),
          ('train_dataloader.num_workers=1000000000', 'num_workers: a whole'),
          ('model.decode_head.num_classes=[4', r'num_classes: a whole number'),
          ('model={"type": ', 'model='),
          ('stages.translatr.x=1', 'translatr'),
          ('custom_hooks.KAHok.weight=1', 'did you mean KAHook'),
          ('custom_hooks.KAHook.adaptation_wight=1', 'adaptation_weight'),
          ('randomness.seed=-1', 'seed: a whole number from 0'),
          (DATA, 'nowhere'),
      )],
    (('train', 'ka.py', '--seed', '-1'), 'seed'),
    (('train', 'ka.py', '--seed', 'one'), 'seed'),
    (('train', 'ka.py', '--work-dir', 'text.txt'), 'is a file'),
    (('train', 'ka.py', '--fold', 'a'), "no fold 'a'"),
    (('train', 'ka.py', '--launcher', 'pytorch'), 'torchrun'),
    (('train', 'ka.py', '--launcher', 'slurm'), 'srun'),
    (('train', 'ka.py', '--launcher', 'ssh'), 'invalid choice'),
    (('train', 'ka.py', '--resume', '--cfg-options', 'load_from=x'),
     'give one of them'),
    (('train', ), 'config'),
    (('train', 'ka.py', 'ka.py'), 'unrecognized'),
    # the other commands
    (('test', 'ka.py', 'text.txt'), 'text.txt'),
    (('test', 'ka.py', '.'), 'does not exist'),
    (('test', 'ka.py', 'x.pth', '--out', 'text.txt'), 'is a file'),
    (('compare', 'kdd'), 'did you mean kd'),
    (('compare', 'kd', '--data', 'mars'), 'mars does not exist'),
    (('compare', 'kd', '--seeds', '-3'), 'a whole number from 0'),
    (('compare', 'kd', '--ratio', '0'), "above 0 is wanted, not '0'"),
    (('compare', 'kd', '--ratio', 'nan'), 'a finite number above 0'),
    (('compare', 'kd', '--minutes', '-1'), 'a finite number above 0'),
    (('compare', 'kd', '--max-iters', '0'), 'a whole number from 1 on'),
    (('compare', 'kd', '--seeds', 'x'), "not 'x'"),
    (('compare', 'kd', '--work-dir', 'text.txt'), 'is a file'),
    (('compare', '--table', '--work-dir', 'text.txt/x'), 'no ledger'),
    (('compare', 'kd', '--student', 'broken.py'), 'broken.py cannot be read'),
    (('compare', 'kd', '--student', 'unknown.py'), 'unknown.py'),
    (('compare', 'kd', '--ledger', '.'), 'is a folder: name a file'),
    (('benchmark', 'step', 'ka.py', '--json', 'no/where.json'), 'not there'),
    (('benchmark', 'step', 'ka.py', '--chart', '.'), 'is a folder'),
    (('benchmark', 'step', 'ka.py:nothing'), "no stage 'nothing'"),
    (('export', 'ka.py', 'none.pth'), 'none.pth does not exist'),
    (('export', 'ka.py', 'x.pth', '--size', '0', '5'), 'from 1 on'),
    (('export-split', 'ka.py', 'x.pth', '--out', 'o', '--size', '-1', '5'),
     'from 1 on'),
    (('predict', 'ka.py', 'none.png', '--out', 'o', '--checkpoint', 'x'),
     'none.png does not exist'),
    (('predict', 'text.onnx', 'x.png', '--out', 'o'), 'text.onnx'),
    (('doctor', ), 'give a config'),
    (('doctor', 'ka.py', '--json', '.'), 'is a folder'),
    (('doctor', '--replay', 'text.txt'), 'text.txt'),
    (('gradients', 'ka.py', '--batches', '0'), 'from 1 on'),
    (('report', 'nothing'), 'nothing'),
    (('report', '--ledger', 'text.txt'), 'text.txt'),
    (('prepare-data', 'check', 'marsscapes'), 'neither a config'),
    (('prepare-data', 'camvid', 'nothing'), 'nothing'),
    (('prepare-data', 'cityscapes', 'text.txt'), 'text.txt is neither'),
    (('prepare-data', 'synthetic', '--size', '3'), 'size'),
    (('prepare-data', 'synthetic', '--train', '-3', '--out', 'o'), 'positive'),
]


@pytest.mark.parametrize('arguments, words',
                         LINES,
                         ids=lambda value: ' '.join(value)
                         if isinstance(value, tuple) else '')
def test_a_line(call, arguments, words, monkeypatch):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    said = call(*arguments)
    assert len(said) == 1 and len(said[0]) < 600, said
    assert re.search(words, said[0]), said


@HOOKS.register_module()
class FailingHook(Hook):

    def __init__(self) -> None:
        raise RuntimeError('there is no moon')


def test_what_a_constructor_does_not_take(capsys):
    """What the check lets pass is a line all the same, with the class."""
    assert cli.run(lambda: HOOKS.build(dict(type='FailingHook'))) == 2
    assert capsys.readouterr().err == (
        'error: FailingHook in the config cannot be built: RuntimeError: '
        'there is no moon; --traceback shows where\n')


def test_bases_that_come_back(tmp_path):
    for name, base in (('a', 'b'), ('b', 'c'), ('c', 'a'), ('d', 'a')):
        (tmp_path / f'{name}.py').write_text(f"_base_ = ['{base}.py']")
    with pytest.raises(UserError, match='a.py is a base of itself, by .*b.py'):
        config_of_file(str(tmp_path / 'd.py'))

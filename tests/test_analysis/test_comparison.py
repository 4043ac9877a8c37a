"""One method after the other: the same but for the method, of any length."""
from pathlib import Path

import pytest
from conftest import run_tool
from mmengine.config import Config

from seg_kd.analysis import comparison
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_methods_and_data():
    assert 'ka' in comparison.methods()
    assert 'student' not in comparison.methods()
    assert {'cityscapes', 'camvid', 'camvid_grid', 'synthetic',
            'voc'} == set(comparison.data_sets())


@pytest.mark.parametrize('method', [comparison.ALONE, *comparison.methods()])
def test_only_the_data_changes(method, tmp_path):
    plain = Config.fromfile('configs/student_deeplab_camvid.py')
    path = comparison.on_data(method, 'camvid', str(tmp_path))
    cfg = Config.fromfile(path)
    stages = [s.to_dict() for s in cfg.get('stages') or []]
    last = stages[-1] if stages else {}
    for key in ('train_dataloader', 'val_dataloader', 'train_cfg'):
        assert cfg[key] == plain[key]
        assert key not in last
    if method == 'hnd':  # a student of its own
        return
    assert cfg.model == plain.model
    if method != comparison.ALONE:
        assert cfg.custom_hooks[0].model.endswith('teacher_deeplab_camvid.py')


def test_no_such_method(tmp_path):
    with pytest.raises(UserError, match='there is no .*the methods are: .*ka'):
        comparison.on_data('kaa', 'camvid', str(tmp_path))


def test_shorter_in_proportion():
    cfg = Config.fromfile('configs/ka_deeplab_camvid.py')
    cfg.custom_hooks[1].update(start=600, warmup=301)
    cfg.train_cfg.max_iters = cfg.param_scheduler[0].end = 3000
    cfg.stages[0].train_cfg.max_iters = 200
    comparison.shorten(cfg, 300)
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 300
    assert cfg.param_scheduler[0].begin == 0
    assert cfg.param_scheduler[0].end == 300
    assert cfg.stages[0].train_cfg.max_iters == 20
    assert cfg.custom_hooks[1].start == 60
    assert cfg.custom_hooks[1].warmup == 30


@pytest.mark.parametrize('method, kind', [('ab', 'KDHook'), ('vid', 'VIDHook'),
                                          ('ka', 'KAHook')])
def test_measured_weights_in_the_last_stage_only(method, kind):
    cfg = Config.fromfile(f'configs/{method}_deeplab.py')
    comparison.pull_alike(cfg, .5)
    *earlier, (_, last) = stage_configs(cfg)
    teacher, hook = last.custom_hooks
    assert hook.to_dict().items() >= dict(type=kind,
                                          weight='auto',
                                          auto_ratio=.5).items()
    assert 'weight' not in teacher
    assert all(stage.custom_hooks[1].get('weight') != 'auto'
               for _, stage in earlier)


def test_no_hook_to_measure():
    for name in ('student_deeplab', 'fsp_deeplab'):
        cfg = Config.fromfile(f'configs/{name}.py')
        comparison.pull_alike(cfg, .5)
        assert list(stage_configs(cfg))[-1][1].custom_hooks == []


def test_table_and_chart(tmp_path):
    results = dict(student=[40., 42.], kd=[43., 44.], at=[39., 40.])
    text = comparison.table(results)
    assert '+2.50' in text and '-1.50' in text and '41.00' in text
    comparison.draw(results, str(tmp_path / 'methods.png'))
    assert (tmp_path / 'methods.png').stat().st_size > 5000


def test_the_tool(tmp_path, monkeypatch, capsys):
    trained = []

    def train(method, data, seed, folder, max_iters, ratio):
        Path(folder).mkdir(exist_ok=True)
        trained.append((method, data, seed, max_iters, ratio))
        return 40. + seed

    monkeypatch.setattr(comparison, 'train', train)
    folder = tmp_path / 'out'
    arguments = ['ka', '--data', 'camvid', '--seeds', 0, 2, '--max-iters', 9]
    status = run_tool('compare', [*arguments, '--work-dir', folder],
                      monkeypatch, ROOT)
    assert status == 0
    assert trained == [(m, 'camvid', s, 9, None) for m in ('student', 'ka')
                       for s in (0, 2)]
    assert '41.00' in (folder / 'table.txt').read_text()
    assert (folder / 'methods.png').exists()
    assert '41.00' in capsys.readouterr().out

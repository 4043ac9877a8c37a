"""Configs without a fault: nothing is red, and each yellow one has a reason.

The shipped ones are small here, on a few scenes, with a teacher of random
weights: it is too weak to tell, which is all that may be said of it.
"""
import pytest
from conftest import TAPS, forget_instances
from mmengine.config import Config

from seg_kd import shipped
from seg_kd.analysis.comparison import ALONE, combine
from seg_kd.datasets.prepare import synthetic
from seg_kd.doctor.examine import examine, tables
from seg_kd.doctor.experiment import Experiment

SIZE = (64, 128)
# Of eight scenes, and of a teacher that learnt nothing.
JUSTIFIED = {'quality', 'labels'}


def look(cfg, tmp_path, **options):
    """(level, check, text) of what is not green, and the experiment."""
    forget_instances()
    experiment = Experiment(cfg,
                            str(tmp_path),
                            str(tmp_path / 'work'),
                            batches=2,
                            **options)
    found = [(f.level, f.check, f.what) for f in examine(experiment)]
    assert len(found) > 10
    return [f for f in found if f[0] != 'green'], experiment


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'synthetic'
    synthetic.convert(root, 8, 2, 2, size=SIZE[::-1])
    return root


@pytest.mark.parametrize('name', ['ka', 'recipe', 'hnd', ALONE])
def test_shipped(name, scenes, tmp_path):
    cfg = (Config.fromfile(shipped.find('ka_deeplab_synthetic'))
           if name == 'ka' else combine(name, 'synthetic'))
    for part in cfg.data_preprocessor, cfg.model.data_preprocessor:
        part.size = SIZE
    cfg.crop_size = SIZE
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(scenes)
    odd, experiment = look(cfg, tmp_path)
    assert {level for level, *_ in odd} <= {'yellow'}, odd
    assert {check for _, check, _ in odd} <= JUSTIFIED, odd
    if name == 'ka':
        assert experiment.untrained == ['translator']
        source = experiment.checkpoint_of('translator')
        assert experiment.named(source) == \
            'stage translator, which is not trained yet'
        assert experiment.named('best.pth') == 'best.pth'
        rows = {row['term']: row for row in tables(experiment)['terms']}
        for part in ('adaptation', 'affinity'):
            row = rows[f'ka.{part}']
            key, _, value = row['suggested'].partition('=')
            assert key == f'{part}_weight'
            assert float(value) == pytest.approx(.2 / row['pull'], rel=.01)


HOOKS = {
    'fitnet':
    dict(type='FitNetHook', weight=.05, **TAPS),
    'fitnet, measured':
    dict(type='FitNetHook', weight='auto', **TAPS),
    'late':
    dict(type='FitNetHook', weight=.05, start=3, warmup=2, **TAPS),
    'connector first':
    dict(type='VIDHook', connector_iters=2, **TAPS),
    'before the ReLU':
    dict(type='ABHook',
         weight=.1,
         student='backbone.conv1.activate:input',
         teacher='decode_head.bottleneck'),
    'logits':
    dict(type='KDHook', weight=.5),
}


@pytest.mark.parametrize('name', HOOKS)
def test_hooks(name, plain_config, teacher_hook, tmp_path):
    cfg = plain_config
    cfg.custom_hooks = [teacher_hook, HOOKS[name]]
    cfg.train_cfg.max_iters = cfg.param_scheduler[0].end = 60
    odd, experiment = look(cfg, tmp_path)
    assert {level for level, *_ in odd} <= {'yellow'}, odd
    assert {check for _, check, _ in odd} <= JUSTIFIED, odd
    (row, ) = tables(experiment)['terms']
    assert row['gradient'] > 0 and row['task'] > 0


def test_the_pull_is_what_a_weight_of_that_size_gives(plain_config,
                                                      teacher_hook, tmp_path):
    cfg = plain_config
    hook = dict(HOOKS['logits'], weight=.5)
    cfg.custom_hooks = [teacher_hook, hook]
    first, = tables(look(cfg, tmp_path)[1])['terms']
    equal = float(first['suggested'].removeprefix('weight='))
    assert first['pull'] == pytest.approx(.5 / equal, rel=.01)
    hook['weight'] = equal
    cfg.custom_hooks = [teacher_hook, hook]
    again, = tables(look(cfg, tmp_path)[1])['terms']
    assert again['pull'] == pytest.approx(1., rel=.01)
    assert again['value'] == pytest.approx(first['value'] * equal / .5,
                                           rel=.01)

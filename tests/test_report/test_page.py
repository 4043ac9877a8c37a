"""The page of two tiny runs: every section, nothing unescaped, in a browser.
"""
import html.parser
import json
import re
import shutil
import subprocess

import pytest
import torch
from conftest import (CLASSES, TAPS, dataset, draw, forget_instances,
                      preprocessor, save_weights, student, teacher)
from mmengine.config import Config

from seg_kd import cli
from seg_kd.report import experiments, looks
from seg_kd.report.page import Note, Section, render_html, render_markdown

NAME = '<script>$alert[1]'  # of a run
BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
KEYS = [
    'runs', 'comparison', 'classes', 'curves', 'quality', 'confusion',
    'agreement', 'pictures', 'affinity', 'attention', 'cka', 'costs',
    'settings'
]


def fake_run(folder, data, weights, hooks, miou):
    """A run that has ended, without the work."""
    config = NAME if hooks else 'student_net'  # names the method
    logs = folder / '20260101_000000/vis_data'
    logs.mkdir(parents=True)
    with open(logs / 'scalars.json', 'w') as f:
        for step in range(1, 7):
            entry = dict(loss=5. / step, lr=.1, time=.5, step=step)
            if hooks:
                entry['loss_ka_affinity'] = 1. / step
            f.write(json.dumps(entry) + '\n')
        ious = {f'IoU.{name}': miou + i for i, name in enumerate(CLASSES)}
        f.write(json.dumps(dict(mIoU=miou, step=6, **ious)) + '\n')
    loader = dict(batch_size=1,
                  num_workers=0,
                  sampler=dict(type='DefaultSampler', shuffle=False),
                  dataset=dataset(data, 'val', training=False))
    model = dict(student(), data_preprocessor=preprocessor())
    cfg = dict(default_scope='mmseg',
               model=model,
               custom_hooks=hooks,
               train_cfg=dict(max_iters=6),
               randomness=dict(seed=0),
               test_dataloader=loader)
    Config(cfg).dump(str(folder / f'{config}.py'))
    settings = dict(cfg, after='')
    (folder / 'run.json').write_text(
        json.dumps(dict(config=config, settings=settings, finished=True)))
    shutil.copy(weights, folder / 'iter_6.pth')


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Two runs, data and a teacher."""
    root = tmp_path_factory.mktemp('report')
    data = root / 'data'
    for kind, count in (('train', 1), ('val', 3)):
        draw(data / kind, count, seed=2)
    (root / 'weights').mkdir()
    trained = shutil.copy(save_weights(teacher(), root / 'weights'),
                          root / 'teacher.pth')
    hooks = [
        dict(type='TeacherHook', model=teacher(), checkpoint=str(trained)),
        dict(type='KAHook', translator=None, **TAPS)
    ]
    for name, own, seed, miou in (('alone', [], 8, 40.), (NAME, hooks, 9,
                                                          42.)):
        weights = save_weights(student(), root / 'weights', seed=seed)
        fake_run(root / name, data, weights, own, miou)
    forget_instances()
    return root


@pytest.fixture(scope='module')
def page(work):
    out = work / 'report.html'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        status = cli.main([
            'report', 'alone', NAME, '--out',
            str(out), '--markdown', 'report.md', '--images', '3'
        ])
    assert status == 0
    return out


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and text by section."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.key = [], {}, ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == 'section':
            self.key = dict(attrs)['id']

    def handle_data(self, data):
        self.text[self.key] = self.text.get(self.key, '') + data


def test_the_page_has_every_section_and_needs_nothing_else(page):
    text = page.read_text(encoding='utf-8')
    assert len(text) < 3e6
    found = Reader(text)
    assert [a['id'] for tag, a in found.tags if tag == 'section'] == KEYS
    assert [a['href'] for tag, a in found.tags
            if tag == 'a' and 'href' in a] == [f'#{key}' for key in KEYS]
    assert not [a for _, a in found.tags if a.get('class') == 'missing']
    assert [tag for tag, _ in found.tags].count('script') == 1
    for tag, attributes in found.tags:
        for name in ('src', 'href', 'xlink:href'):
            assert attributes.get(name, '#').startswith(('#', 'data:')), tag
        if tag == 'img':
            assert attributes['alt']
        if attributes.get('role') == 'img':
            assert attributes['aria-label']
    ids = [a['id'] for _, a in found.tags if 'id' in a]
    assert len(ids) == len(set(ids))
    # what was logged, and what was measured
    assert '+2.00' in found.text['comparison']
    assert all(name in found.text['classes'] for name in CLASSES)
    assert 'loss_ka_affinity' in found.text['curves']
    for key in ('quality', 'costs', 'agreement'):
        assert 'student alone' in found.text[key]
    assert NAME in found.text['curves'] and NAME in found.text['quality']
    markdown = (page.parent / 'report.md').read_text()
    assert '<script>' not in markdown
    assert markdown.count('\n## ') == len(KEYS)


def test_the_measured_miou_is_that_of_the_test(page, work):
    """By MMSegmentation's own metric, on the same weights."""
    from mmengine.registry import init_default_scope
    from mmseg.evaluation import IoUMetric

    from seg_kd.engine.evaluate import load_student
    from seg_kd.registry import DATASETS
    init_default_scope('mmseg')
    cfg = Config.fromfile(str(work / 'alone/student_net.py'))
    model, _ = load_student(cfg, str(work / 'alone/iter_6.pth'))
    data = DATASETS.build(cfg.test_dataloader.dataset)
    metric = IoUMetric()
    metric.dataset_meta = data.metainfo
    with torch.no_grad():
        for sample in data:
            out = model.test_step({k: [v] for k, v in sample.items()})
            metric.process({}, [x.to_dict() for x in out])
    expected = metric.evaluate(len(data))['mIoU']
    markdown = (page.parent / 'report.md').read_text()
    rows = re.findall(r'^\| student alone +\| +([\d.]+)', markdown, re.M)
    assert float(rows[0]) == pytest.approx(expected, abs=.006)


SCRIPT = '''
<script>
const problems = [];
addEventListener('error', e => problems.push('error: ' + e.message));
addEventListener('securitypolicyviolation',
                 e => problems.push('policy: ' + e.blockedURI));
addEventListener('load', () => {
  const wide = document.documentElement.clientWidth;
  const box = e => e.getBoundingClientRect();
  const named = e => e.tagName + ' ' + e.className + ' ' +
    e.textContent.trim().slice(0, 30);
  if (document.documentElement.scrollWidth > wide)
    problems.push('the page scrolls');
  for (const e of document.querySelectorAll('body *')) {
    if (!e.closest('.scroll *') && !e.closest('svg *') &&
        box(e).right > wide + 1) problems.push('too wide: ' + named(e));
  }
  for (const parent of document.querySelectorAll(
      'main, section, .charts, .pictures, figure')) {
    const inner = [...parent.children].map(box);
    inner.forEach((a, i) => inner.slice(i + 1).forEach((b, j) => {
      const over = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (over > 1 && down > 1)
        problems.push('overlap: ' + named(parent.children[i]) + ' and ' +
                      named(parent.children[i + 1 + j]));
    }));
  }
  for (const svg of document.querySelectorAll('svg')) {
    const whole = box(svg);
    if (whole.width < 100 || whole.height < 40) problems.push('small chart');
    for (const t of svg.querySelectorAll('text')) {
      const b = box(t);
      if (b.left < whole.left - 3 || b.right > whole.right + 3 ||
          b.top < whole.top - 3 || b.bottom > whole.bottom + 3)
        problems.push('cut off: ' + t.textContent);
    }
  }
  for (const image of document.images)
    if (!image.naturalWidth) problems.push('broken: ' + image.alt);
  const choice = document.querySelector('.choice');
  const before = getComputedStyle(choice.querySelector('.sprite'))
    .backgroundPosition;
  choice.querySelector('button').click();
  const after = getComputedStyle(choice.querySelector('.sprite'))
    .backgroundPosition;
  if (before === after || after !== '0% 0%')
    problems.push('a click shows ' + after);
  if (choice.querySelectorAll('[aria-pressed=true]').length !== 1)
    problems.push('pressed');
  const shown = getComputedStyle(document.body);
  top.document.title = JSON.stringify({problems, wide, charts:
    document.querySelectorAll('svg').length, background:
    shown.backgroundColor});
});
</script>
'''


@pytest.mark.skipif(BROWSER is None, reason='needs Chromium')
@pytest.mark.parametrize('width,scheme,background',
                         [(1280, 1, 'rgb(255, 255, 255)'),
                          (400, 0, 'rgb(21, 24, 28)')])
def test_a_browser_shows_it_whole(page, tmp_path, width, scheme, background):
    text = page.read_text(encoding='utf-8')
    probed = tmp_path / 'page.html'
    # in a frame: a window of a browser has a least width
    inner = html.escape(text.replace('<style>', f'{SCRIPT}<style>', 1))
    probed.write_text(
        '<!DOCTYPE html><meta charset="utf-8"><title></title>'
        '<meta name="color-scheme" content="light dark">'
        f'<iframe width="{width}" height="900" srcdoc="{inner}"></iframe>',
        encoding='utf-8')
    done = subprocess.run([
        BROWSER, '--headless', '--no-sandbox', '--disable-gpu',
        '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--hide-scrollbars',
        f'--user-data-dir={tmp_path / "profile"}',
        f'--blink-settings=preferredColorScheme={scheme}',
        '--window-size=1400,1000', '--dump-dom',
        probed.as_uri()
    ],
                          capture_output=True,
                          text=True,
                          timeout=300)
    title = re.search(r'<title>(.*?)</title>', done.stdout, re.DOTALL)
    assert title, done.stderr
    found = json.loads(html.unescape(title[1]))
    assert found['problems'] == []
    assert found['background'] == background
    assert found['charts'] > 8
    assert found['wide'] == width


def test_what_is_missing_is_a_line_in_its_section(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    sections = looks.sections(None, 'no checkpoint of <b>.', print)
    assert [s.key for s in sections] == [k for k in KEYS if k in looks.INTROS]
    text = render_html('t', sections)
    assert text.count('no checkpoint of &lt;b&gt;.') == len(sections)
    # the ledger alone, with a damaged line
    entry = dict(experiment='<i>',
                 method='student',
                 fold=None,
                 seed=0,
                 iterations=6,
                 miou=40.,
                 wall_s=5)
    lines = [entry, dict(entry, method='kd', miou=41.), dict(method='bad')]
    (work / 'ledger.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    arguments = ['report', '--ledger', 'ledger.jsonl', '--out', 'ledger.html']
    assert cli.main(arguments) == 0
    assert 'line 3 is left out' in capsys.readouterr().err
    found = Reader((work / 'ledger.html').read_text())
    assert 'line 3 is left out' in found.text['runs']
    assert '+1.00' in found.text['comparison'] and '<i>' in found.text['runs']
    assert not [tag for tag, _ in found.tags if tag == 'i']
    assert 'a ledger has no networks' in found.text['cka']
    # nothing is written over
    assert cli.main(arguments) == 2
    assert 'ledger.html exists' in capsys.readouterr().err
    assert cli.main([
        'report', '--ledger', 'ledger.jsonl', '--out', 'x', '--markdown', './x'
    ]) == 2
    assert 'give each a file of its own' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments,said',
    [([], 'nothing to report'),
     (['--ledger', 'gone.jsonl'], 'there is no ledger gone.jsonl'),
     (['gone'], 'there is no folder gone'),
     (['alone', '--checkpoint', 'kd=x.pth'
       ], "no run is called so; there are: alone, student, student, seed 0"),
     (['alone', '--checkpoint', 'x.pth'], 'RUN=FILE is wanted')])
def test_bad_input_is_one_line(work, arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert cli.main(['report', *arguments, '--out', 'bad.html']) == 2
    error = [
        line for line in capsys.readouterr().err.splitlines()
        if line.startswith('error: ')
    ]
    assert len(error) == 1 and said in error[0]
    assert not (work / 'bad.html').exists()


def test_without_the_extra(monkeypatch, capsys):
    import importlib.util
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *rest: None
        if name == 'pandas' else found(name, *rest))
    assert cli.main(['report', 'any']) == 2
    assert capsys.readouterr().err == ('error: the report needs pandas: pip '
                                       "install 'seg_kd[report]'\n")


def test_markdown_has_no_markup_of_names():
    section = Section('a', 'A', 'intro', [Note('*a* | <b> _c_')])
    text = render_markdown('t', [section.missing('no such run.')])
    assert r'\*a\* \| &lt;b> \_c\_' in text
    assert '\nNot here: no such run.\n' in text


def test_durations():
    shown = [experiments.duration(s) for s in (4., 89., 90., 3599., 7260.)]
    assert shown == ['4 s', '89 s', '2 min', '1 h 00 min', '2 h 01 min']

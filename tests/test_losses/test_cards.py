"""docs/methods: every loss has a card, which points to it and its weight."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from seg_kd import losses
from seg_kd.engine.stages import stage_configs

ROOT = Path(__file__).parents[2]
CARDS = sorted(p for p in (ROOT / 'docs/methods').glob('*.md')
               if p.stem != 'README')
ROWS = re.findall(r'^\| \[.*?\]\((\w+)\.md\) .*\| (.*?) \|$',
                  (ROOT / 'docs/methods/README.md').read_text(), re.M)


def test_every_card_is_in_the_table():
    assert sorted(name for name, _ in ROWS) == [p.stem for p in CARDS]


@pytest.mark.parametrize('card', CARDS, ids=lambda p: p.stem)
def test_a_card_points_to_the_docstring_and_holds_no_weight(card):
    text = card.read_text()
    name, file = re.search(
        r'docstring of\s`(\w+)`\sin\s\[seg_kd/losses/(\w+).py\]',
        text).groups()
    assert getattr(losses, name).__module__ == f'seg_kd.losses.{file}'
    assert not re.search(r'weight=[\d.]+(?!.*# paper)', text)


@pytest.mark.parametrize('card', CARDS, ids=lambda p: p.stem)
def test_a_whole_config_on_a_card_can_be_completed(card, tmp_path):
    for code in re.findall(r'```python\n(_base_.*?)```', card.read_text(),
                           re.S):
        (tmp_path / 'card.py').write_text(code)
        config = Config.fromfile(str(tmp_path / 'card.py'))
        *_, (_, stage) = stage_configs(config)
        assert f"{card.stem.replace('_', '')}hook" in [
            hook.type.lower() for hook in stage.custom_hooks
        ]


@pytest.mark.parametrize('name, weight', ROWS)
def test_the_weight_in_the_table_is_the_shipped_one(name, weight):
    config = Config.fromfile(str(ROOT / f'configs/{name}_deeplab.py'))
    kind = f"{name.replace('_', '')}hook"
    shipped = {
        hook.get('weight', hook.get('adaptation_weight', None))
        for _, stage in stage_configs(config)
        for hook in stage.custom_hooks if hook.type.lower() == kind
    }
    if weight == 'measured':
        assert shipped == {'auto'}
        return
    number = float(re.match(r'[\d.]+', weight)[0])
    assert number in shipped or shipped == {None} and number in (1, 50)

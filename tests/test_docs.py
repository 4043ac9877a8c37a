"""The documents: links, anchors, commands and imports lead somewhere."""
import ast
import importlib
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from seg_kd import cli, shipped

ROOT = Path(__file__).parents[1]
DOCS = sorted([
    *ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), ROOT / 'data/README.md',
    ROOT / 'benchmarks/README.md', ROOT / 'seg_kd/losses/README.md'
])
FENCE = re.compile(r'^(```|~~~)(\w*).*?\n(.*?)^\1', re.M | re.S)
LINK = re.compile(r'\]\(([^)\s]+)\)')


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub('', path.read_text(encoding='utf-8'))


def anchors(path: Path) -> set[str]:
    """Those of the headings, as GitHub and the site make them."""
    titles = re.findall(r'^#+ (.*)$', prose(path), re.M)
    titles = [re.sub(r'\[(.*?)\]\(.*?\)', r'\1', title) for title in titles]
    return {
        re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-')
        for title in titles
    }


@pytest.mark.parametrize('path', DOCS, ids=name)
def test_links_lead_somewhere(path):
    missing = []
    for link in LINK.findall(prose(path)):
        if re.match(r'\w+:', link):  # of the web
            continue
        file, _, anchor = link.partition('#')
        found = path.parent / file if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            missing.append(link)
    assert not missing


def test_every_page_is_in_the_navigation_and_the_other_way_round():
    # Its tags of Python are of no interest here.
    text = re.sub(r'!!python\S+', '', (ROOT / 'mkdocs.yml').read_text())
    in_nav = set(leaves(yaml.safe_load(text)['nav']))
    made = {
        page
        for page in in_nav if page == 'commands.md' or page.startswith('api/')
    }
    pages = {name(path).removeprefix('docs/') for path in DOCS}
    assert in_nav - made == pages


def leaves(node) -> list[str]:
    if isinstance(node, str):
        return [node]
    inner = node.values() if isinstance(node, dict) else node
    return [leaf for part in inner for leaf in leaves(part)]


@pytest.mark.parametrize('path', DOCS, ids=name)
def test_commands_and_configs_are_there(path):
    text = path.read_text(encoding='utf-8')
    for tool in re.findall(r'(?<![/\w])tools/(\w+)\.py', text):
        assert (ROOT / f'tools/{tool}.py').exists(), tool
    for command, first in re.findall(r'`?\bseg-kd ([a-z][\w-]*)(?: +(\S+))?',
                                     text):
        assert command in cli.COMMANDS, command
        config = first.strip('`.,;:)')
        if command in ('train', 'test', 'export') and config.isidentifier() \
                and not config.isupper():
            assert config in shipped.names(), f'{command} {config}'


@pytest.mark.parametrize('path', DOCS, ids=name)
def test_what_python_imports_is_there(path):
    for _, kind, code in FENCE.findall(path.read_text(encoding='utf-8')):
        if kind != 'python' or 'seg_kd' not in code:
            continue
        # a config refers to its bases in a way of its own
        code = re.sub(r'\{\{(.*?)\}\}', 'None', textwrap.dedent(code))
        for node in ast.walk(ast.parse(code)):
            module = getattr(node, 'module', None) or ''
            if isinstance(node, ast.ImportFrom) and \
                    module.split('.')[0] == 'seg_kd':
                found = importlib.import_module(module)
                for alias in node.names:
                    assert hasattr(found, alias.name), (module, alias.name)

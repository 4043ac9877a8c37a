"""One site of docs/ and of what lies beside it, for mkdocs.

On the repository's own pages the links between documents, and from them to
code, are paths. They stay so, and lead to the right place here:

- documents outside of docs/ (``OUTSIDE``) become pages under their own path;
- a file of code that a document links to becomes a page that shows it;
- the help of each command, and the API pages, are made from the package.
"""
import argparse
import ast
import importlib
import os
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md',
           'data/README.md', 'benchmarks/README.md', 'seg_kd/losses/README.md')
LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))')
NOT_SEARCHED = '---\nsearch:\n  exclude: true\n---\n'
API = dict(losses=('Losses', 'seg_kd.losses'),
           hooks=('Hooks', 'seg_kd.hooks'),
           data=('Data and transforms', 'seg_kd.datasets'),
           distiller=('Distiller, Term, Teacher', 'seg_kd'))


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""

    def add(uri: str, text: str) -> None:
        files.append(File.generated(config, uri, content=text))

    for path in OUTSIDE:
        add(path, (ROOT / path).read_text(encoding='utf-8'))
    shown = set()
    for file in files.documentation_pages():
        for match in LINK.finditer(file.content_string):
            shown.add(target(file.src_uri, match[1]))
    for path in sorted(shown):
        if page_of(path).startswith('source/') and (ROOT / path).exists():
            add(page_of(path), source(ROOT / path, path))
    add('commands.md', commands())
    for name, (title, module) in API.items():
        add(f'api/{name}.md', api(title, module))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Turns the links of a document into links between pages."""
    here = page.file.src_uri

    def link(match: re.Match) -> str:
        path = target(here, match[1])
        if not (ROOT / path).exists():
            return match[0]
        place = posixpath.relpath(page_of(path), posixpath.dirname(here))
        return place + (match[2] or '')

    return as_python_markdown(LINK.sub(link, markdown))


# -- paths -----------------------------------------------------------------


def in_repository(uri: str) -> str:
    """The path of a page's document in the repository."""
    return uri if uri in OUTSIDE else f'docs/{uri}'


def target(uri: str, link: str) -> str:
    """The path in the repository that a link of a page means."""
    folder = posixpath.dirname(in_repository(uri))
    return posixpath.normpath(posixpath.join(folder, link))


def page_of(path: str) -> str:
    """The page, or the picture, that a path of the repository is here."""
    if path in OUTSIDE:
        return path
    inside = path.removeprefix('docs/')
    return inside if inside != path else f'source/{path}.md'


def as_python_markdown(text: str) -> str:
    """What GitHub reads otherwise than Python's Markdown does.

    What belongs to an item of a list stands four columns in here, and a
    vertical bar in the code of a table needs no backslash.
    """
    lines, width, fence = [], 0, False
    for line in text.split('\n'):
        if line.startswith('```'):
            fence = not fence
        item = re.match(r'- +|\d+\. +', line)
        if item and not fence:
            width = len(item[0])
        elif line.startswith(' ' * max(width, 1)):
            line = ' ' * (4 - width if width else 0) + line
        elif line:
            width = 0
        if line.startswith('|'):
            line = re.sub('`[^`]*`', lambda m: m[0].replace('\\|', '|'), line)
        lines.append(line)
    return '\n'.join(lines)


# -- pages that are made ---------------------------------------------------


def source(file: Path, path: str) -> str:
    """A page that shows a file, or what is in a folder."""
    if file.is_dir():
        names = sorted(
            p.relative_to(file).as_posix() for p in file.rglob('*.*')
            if '__' not in p.as_posix())
        text, kind = '\n'.join(names), 'text'
    else:
        text = file.read_text(encoding='utf-8').rstrip()
        kind = {'.py': 'python', '.cfg': 'ini'}.get(file.suffix, 'text')
    return f'{NOT_SEARCHED}# `{path}`\n\n~~~~~{kind}\n{text}\n~~~~~\n'


def commands() -> str:
    """The help of each command, and of its parts."""
    os.environ['COLUMNS'] = '80'
    sys.path.insert(0, str(ROOT))
    cli = importlib.import_module('seg_kd.cli')
    pages = ['# Commands', f'```text\n{cli.usage()}\n```']
    for name in cli.COMMANDS:
        module = f'seg_kd.commands.{name.replace("-", "_")}'
        parser = cli.parser_of(name, importlib.import_module(module))
        pages += [f'## seg-kd {name}', f'```text\n{parser.format_help()}```']
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for part, inner in action.choices.items():
                    pages += [
                        f'### seg-kd {name} {part}',
                        f'```text\n{inner.format_help()}```'
                    ]
    return '\n\n'.join(pages)


def api(title: str, module: str) -> str:
    """What a module exports, from its docstring and its ``__all__``."""
    file = ROOT / module.replace('.', '/') / '__init__.py'
    tree = ast.parse(file.read_text(encoding='utf-8'))
    names = next(
        ast.literal_eval(node.value) for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__')
    place = dict((alias.name, node.module) for node in ast.walk(tree)
                 if isinstance(node, ast.ImportFrom) for alias in node.names)
    parts = [f'# {title}', f'`import {module}`. ' + ast.get_docstring(tree)]
    for name in sorted(names, key=str.lower):
        parts.append(f'::: {place[name]}.{name}')
    return '\n\n'.join(parts)

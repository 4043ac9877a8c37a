"""docs/architecture.md against the tree: rooms, and who imports whom."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'seg_kd'
TEXT = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
# Rooms from the lowest to the highest, as the table has them.
ROOMS = re.findall(r'^\| `seg_kd/([\w.]+)/?` \|', TEXT, re.MULTILINE)
# These import when they run: `seg-kd --help` is not to wait for torch, nor
# `import seg_kd` for anything.
LAZY = {'__init__.py', 'cli.py', 'commands'}


def room(path: Path) -> str:
    """The folder, or the module itself where it stands beside the folders."""
    return path.relative_to(PACKAGE).parts[0]


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob('*.py') if '.mim' not in p.parts)


def room_of(module: str) -> str:
    """The room of ``seg_kd.a.b``; a name of the package itself has none."""
    name = [*module.split('.'), ''][1]
    for found in (name, f'{name}.py'):
        if name and (PACKAGE / found).exists():
            return found
    return '__init__.py'


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding='utf-8'))


def imports(path: Path, tree: ast.AST) -> list[tuple[str, int]]:
    """What a file imports of seg_kd: module names, with their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: a relative import'
            names = [node.module]
            if node.module == 'seg_kd':
                names = [f'seg_kd.{alias.name}' for alias in node.names]
        else:
            continue
        found += [(n, node.lineno) for n in names
                  if n.split('.')[0] == 'seg_kd']
    return found


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports), but for the package itself."""
    found = {(room(path), room_of(name))
             for path in modules()
             for name, _ in imports(path, parsed(path))}
    return {(a, b) for a, b in found if a != b and '__init__.py' not in (a, b)}


def test_every_room_is_in_the_table_and_the_other_way_round():
    there = {room(path) for path in modules()} - {'__init__.py'}
    assert set(ROOMS) == there
    assert len(ROOMS) == len(set(ROOMS))


def test_imports_run_downwards_only():
    rank = {name: i for i, name in enumerate(ROOMS)}
    upward = [f'{a} imports {b}' for a, b in arrows() if rank[a] < rank[b]]
    assert not upward


@pytest.mark.parametrize('path',
                         modules(),
                         ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_hides_in_a_function(path):
    hidden = [
        f'line {line}: {name}' for block in ast.walk(parsed(path))
        if isinstance(block, (ast.FunctionDef, ast.AsyncFunctionDef))
        for name, line in imports(path, block)
    ]
    assert room(path) in LAZY or not hidden


def test_the_drawing_of_the_rooms_has_the_arrows_that_there_are():
    drawing = re.search(r'```mermaid\nflowchart.*?```', TEXT, re.DOTALL)[0]
    drawn = set(re.findall(r'^ +([\w.]+) --> ([\w.]+)$', drawing, re.M))
    assert drawn == {(a.removesuffix('.py'), b.removesuffix('.py'))
                     for a, b in reduced(arrows())}


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without an arrow that a longer way already says."""
    below = {a: {b for x, b in pairs if x == a} for a, _ in pairs}

    def reach(start: str) -> set[str]:
        found, stack = set(), list(below.get(start, ()))
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack += below.get(name, ())
        return found

    return {(a, b)
            for a, b in pairs
            if not any(b in reach(c) for c in below[a] - {b})}


def test_losses_import_torch_alone():
    known = {'torch', 'seg_kd'} | set(__import__('sys').stdlib_module_names)
    for path in (PACKAGE / 'losses').rglob('*.py'):
        for node in ast.walk(parsed(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert {n.split('.')[0] for n in names} <= known, path

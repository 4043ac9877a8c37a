"""The lock: every package by version and hash, and no address in them."""
import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIN = re.compile(r'([a-z\d.-]+)==([\w.]+)(?: \\)?')


def entries() -> dict[str, list[str]]:
    """The lines below each package of the lock."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / 'requirements.lock').read_text().splitlines():
        if line.startswith(' '):
            found[list(found)[-1]].append(line.strip(' \\'))
        elif not line.startswith('#'):
            found[PIN.fullmatch(line)[1]] = []
    return found


def test_every_package_has_its_hashes():
    for name, lines in entries().items():
        assert lines, name
        for line in lines:
            assert re.fullmatch(r'--hash=sha256:[\da-f]{64}', line), name


def test_torch_stands_alone():
    """Its files differ from index to index."""
    lock = (ROOT / 'requirements.lock').read_text()
    assert re.findall(r'^# torch==[\d.]+$', lock, re.M)
    assert 'torch' not in entries()


def test_no_address_of_an_index():
    for name in ('requirements.lock', 'Makefile'):
        assert '://' not in (ROOT / name).read_text(), name


def test_what_the_package_asks_for_is_locked():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    extras = setup['options.extras_require']
    asked = [setup['options']['install_requires']]
    asked += [extras[name] for name in ('test', 'lint', 'docs', 'export')]
    names = re.findall(r'^\s*([a-zA-Z][\w-]*)', '\n'.join(asked), re.M)
    assert {n.lower() for n in names} <= entries().keys() | {'torch'}

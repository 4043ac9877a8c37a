"""The configs and weights that come with the package, found from any folder.

Configs lie in ``.mim/configs``, where MMEngine looks for the configs of a
package; in a clone that is a link to ``configs/``. Weights lie beside them.
"""
import os
from collections.abc import Iterable

from seg_kd.errors import UserError

SCOPE = 'seg_kd::'
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), '.mim',
                      'configs')
WEIGHTS = os.path.join(os.path.dirname(FOLDER), 'weights')
METHODS, EXPERIMENTS, STUDENTS = (f'_base_/{kind}'
                                  for kind in ('methods', 'experiments',
                                               'students'))

MOST = 20  # names in a message


def names(kind: str = '') -> list[str]:
    """Shipped configs, or those of one kind, such as :data:`METHODS`."""
    return sorted(
        file.removesuffix('.py')
        for file in os.listdir(os.path.join(FOLDER, kind))
        if file.endswith('.py'))


def find(name: str, kind: str = '') -> str:
    """The file that a user means by ``name``.

    A path; ``seg_kd::ka_deeplab.py``; or the name of a shipped config, of the
    given kind, with or without ``.py``.

    Raises:
        UserError: There is none; with the names that come nearest.
    """
    if os.path.isfile(name):
        return name
    inner = name.removeprefix(SCOPE).removesuffix('.py') + '.py'
    places = [inner] if name.startswith(SCOPE) else []
    if os.path.dirname(inner) == '':
        places.insert(0, os.path.join(kind, inner))
    for place in places:
        path = os.path.join(FOLDER, place)
        if os.path.isfile(path):
            return path
    what = os.path.basename(kind).removesuffix('s') or 'config'
    raise UserError(f'{what} {name} does not exist'
                    f'{nearest(stem(inner), names(kind))}')


def weights(model: str | dict, checkpoint: str | None = None) -> str | None:
    """The checkpoint of a network: as given, or what is shipped of a config.

    Args:
        model: A shipped config by its name, ``seg_kd::NAME.py``, or another.
        checkpoint: Goes before what is shipped.
    """
    if checkpoint or not isinstance(model, str) or not model.startswith(SCOPE):
        return checkpoint
    name = stem(model.removeprefix(SCOPE))
    path = os.path.join(WEIGHTS, f'{name}.pth')
    return path if os.path.isfile(path) else None


def nearest(wanted: str, known: Iterable[str]) -> str:
    """``'; did you mean ...?'``, or ``'; there are: ...'``."""
    import difflib
    known = list(known)
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=.5)
    if near:
        return f'; did you mean {" or ".join(near)}?'
    more = f' and {len(known) - MOST} more' if known[MOST:] else ''
    return f'; there are: {", ".join(known[:MOST])}{more}' if known else ''


def typo_of(word: str,
            known: Iterable[str],
            cutoff: float = .88) -> str | None:
    """The known word that another is surely meant to be; None if it is one.
    """
    import difflib
    known = list(known)
    if word in known:
        return None
    return next(iter(difflib.get_close_matches(word, known, 1, cutoff)), None)


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path.removeprefix(SCOPE)))[0]


def title(path: str) -> str:
    """The name that a config is told apart by: its place, not its content."""
    path = os.path.realpath(path)
    folder = os.path.realpath(FOLDER)
    if os.path.commonpath([path, folder]) == folder:
        return SCOPE + os.path.relpath(path, folder)
    return path

"""Several splits of one data set: each fold is trained and measured alone.

A data base says what each fold changes, ``folds = dict(NAME=changes, ...)``,
and so do teacher and students alike: the teacher of a fold has seen no more
than the student has.
"""
import os
import warnings

from mmengine.config import Config

from seg_kd import shipped
from seg_kd.engine.complete import plain, teachers_of
from seg_kd.errors import UserError


def choose_fold(cfg: Config, name: str) -> None:
    """Makes the changes of one fold; its teacher is that of the same fold.

    A checkpoint ``work_dirs/NAME/...`` of a teacher becomes
    ``work_dirs/NAME_FOLD/...``, unless the fold names one itself. A teacher
    that is the same in all folds is warned of: it may have seen what is
    measured on.

    Raises:
        UserError: There is no such fold.
    """
    folds = cfg.get('folds') or {}
    if name not in folds:
        raise UserError(
            f'the config has no fold {name!r}'
            f'{shipped.nearest(name, folds) or ": it defines no folds"}')
    before = [t.get('checkpoint') for t in teachers_of(cfg)]
    cfg.fold = name
    cfg.merge_from_dict(plain(folds[name]))
    for teacher in teachers_of(cfg):
        checkpoint = teacher.get('checkpoint')
        if not checkpoint or checkpoint not in before or \
                checkpoint.startswith('stage:'):
            continue
        teacher['checkpoint'] = of_fold(checkpoint, name)
        if teacher['checkpoint'] == checkpoint:
            warnings.warn(
                f'the teacher {checkpoint} is that of all folds: it may have '
                f'been trained on what {name} measures on. Name one in '
                f"folds['{name}'], or keep it in work_dirs/NAME_{name}")


def of_fold(checkpoint: str, fold: str) -> str:
    """The same checkpoint in the work directory of a fold."""
    folder, file = os.path.split(checkpoint)
    parts = folder.split('/')
    if 'work_dirs' in parts[:-1]:
        parts[parts.index('work_dirs') + 1] += f'_{fold}'
    return os.path.join('/'.join(parts), file)

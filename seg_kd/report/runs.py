"""Runs in folders: what was trained there, with what, and what it came to."""
import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from seg_kd import shipped
from seg_kd.analysis.comparison import outcome
from seg_kd.analysis.ledger import ALONE, KINDS, PAIR, Run
from seg_kd.analysis.logs import read_scalars, seconds_trained
from seg_kd.datasets.check import unwrapped
from seg_kd.engine.dumped import read_dumped
from seg_kd.engine.records import latest_checkpoint, read_record
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of

LOGS = os.path.join('*', 'vis_data', 'scalars.json')
TEACHER = 'teacher'


@dataclass
class Found:
    """A run in a folder.

    Attributes:
        folder: That of the run.
        stages: Folders of its stages by name, in the order in which they
            began; one with the name '' where there are none.
        record: ``run.json`` of the last stage, or nothing.
        cfg: Its config; None where it cannot be read.
        problem: Why it cannot.
        other_network: Its student is not that of the run without a method.
        method: A name, :data:`ALONE`, or :data:`TEACHER` for the teacher of
            another run here.
    """
    folder: str
    stages: dict[str, str]
    record: dict[str, Any]
    cfg: Config | None = None
    problem: str = ''
    other_network: bool = False
    experiment: str = ''
    method: str = ''
    fold: str | None = None
    seed: int = 0
    iterations: int = 0
    own: str = field(default='', repr=False)  # name of its config

    @property
    def last(self) -> str:
        """The folder of its last stage: of the student."""
        return list(self.stages.values())[-1]

    @property
    def name(self) -> str:
        """What it is called where there are several."""
        parts = [self.method, self.fold, f'seed {self.seed}']
        return ', '.join(filter(None, parts))

    @property
    def called(self) -> tuple[str, ...]:
        """What ``--checkpoint`` may call it."""
        folder = os.path.basename(os.path.abspath(self.folder))
        return folder, self.method, self.name

    @property
    def finished(self) -> bool:
        return bool(self.record.get('finished', True))

    @property
    def checkpoint(self) -> str | None:
        return latest_checkpoint(self.last)

    @property
    def seconds(self) -> dict[str, float]:
        """Of training, by stage, without validations."""
        return {k: seconds_trained(path) for k, path in self.stages.items()}

    @property
    def data(self) -> str:
        """The data set that it is measured on, in words."""
        for loader in ('test_dataloader', 'val_dataloader',
                       'train_dataloader'):
            for inner in unwrapped(((self.cfg or {}).get(loader)
                                    or {}).get('dataset')):
                root = inner.get('data_root') or ''
                return os.path.basename(os.path.normpath(root)) if root \
                    else str(inner.get('type'))
        return 'unknown data'

    def entry(self) -> Run | None:
        """As a line of a ledger; None if it was never evaluated."""
        if 'mIoU' not in read_scalars(self.last):
            return None
        mark = dict(other_network=True) if self.other_network else {}
        return dict(experiment=self.experiment,
                    method=self.method,
                    fold=self.fold,
                    seed=self.seed,
                    iterations=self.iterations,
                    **mark,
                    **outcome(list(self.stages.values())))


def find_runs(folders: Sequence[str], *noted: Run) -> list[Found]:
    """The runs in some folders, each of one run or of several.

    Args:
        folders: Theirs.
        *noted: Runs in ledgers, which may know the experiment better.

    Raises:
        UserError: A folder is missing or holds no logs, or the runs are of
            different data sets.
    """
    found: dict[str, Found] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f'there is no folder {folder}')
        runs = list(_in_folder(folder))
        if not runs:
            raise UserError(
                f'{folder} holds no logs of training: there is no '
                f'{LOGS} in it, nor in the folders in it; give the work_dir '
                'of seg-kd train or seg-kd compare')
        found.update((os.path.realpath(run.folder), run) for run in runs)
    runs = list(found.values())
    for run in runs:
        _describe(run)
    _name_as_noted(runs, noted)
    _check_data(runs)
    _name_teachers(runs)
    _mark_other_networks(runs)
    _tell_apart(runs)
    return runs


def _in_folder(folder: str) -> Iterable[Found]:
    """A run, a run with stages, or what the folders in it hold."""
    if _has_logs(folder):
        yield Found(folder, {'': folder}, read_record(folder) or {})
        return
    inner = [
        path for path in _folders_in(folder)
        if '.before_' not in os.path.basename(path)
    ]
    stages = [path for path in inner if _has_logs(path)]
    deeper = [p for p in inner if p not in stages and _holds_runs(p)]
    if stages and not deeper and _is_one_run(stages):
        stages.sort(key=_began)
        yield Found(folder, {os.path.basename(p): p
                             for p in stages},
                    read_record(stages[-1]) or {})
        return
    for path in inner:
        if path in stages or path in deeper:
            yield from _in_folder(path)


def _is_one_run(parts: Sequence[str]) -> bool:
    """Are they its stages? A later one knows that it comes after another."""
    after = [(read_record(p) or {}).get('settings', {}).get('after')
             for p in parts]
    one = len(parts) == 1 and not _seed_in(parts[0])
    return any(after) or one


def _holds_runs(folder: str) -> bool:
    return any(map(_has_logs, _folders_in(folder)))


def _folders_in(folder: str) -> list[str]:
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    return list(filter(os.path.isdir, paths))


def _logs(folder: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), LOGS)))


def _has_logs(folder: str) -> bool:
    """Was something trained there? A test has logs, too, but no record."""
    if _logs(folder) and read_record(folder):
        return True
    for path in _logs(folder):
        with open(path, encoding='utf-8') as f:
            if any('"loss"' in line for line in f):
                return True
    return False


def _began(folder: str) -> str:
    """Folders of logs are named by their time."""
    return _logs(folder)[0].removeprefix(folder)


def _seed_in(folder: str) -> re.Match | None:
    return re.fullmatch(r'(.+)_seed(\d+)',
                        os.path.basename(os.path.abspath(folder)))


def _describe(run: Found) -> None:
    """Fills in what its config, or the name of its folder, says."""
    try:
        run.cfg = read_config(run)
    except Exception as error:  # a config is a program
        run.problem = f'{type(error).__name__}: {error}'
    cfg = run.cfg or {}
    run.own = run.record.get('config') or (shipped.stem(cfg.filename)
                                           if run.cfg else '')
    settings = run.record.get('settings', {})
    run.fold = cfg.get('fold')
    seed = (cfg.get('randomness') or {}).get('seed')
    run.seed = settings.get('randomness.seed', seed) or 0
    scalars = read_scalars(run.last)
    run.iterations = max((v[-1][0] for v in scalars.values()), default=0)
    if run.finished:
        longest = (cfg.get('train_cfg') or {}).get('max_iters')
        run.iterations = longest or run.iterations
    run.experiment, run.method = run.data, run.own
    told = run.cfg or settings
    if told and not any(hooks_of(told, DistillHook)):
        run.method = ALONE
    match = _seed_in(run.folder)
    if match:  # as seg-kd compare names them
        method = match[1].removesuffix(f'_{run.fold}')
        stem = method.partition('@')[0] + '_'
        if run.own.startswith(stem):
            run.method = method
            run.experiment = _experiment(run, run.own.removeprefix(stem))
    run.method = run.method or os.path.basename(os.path.abspath(run.folder))


def _experiment(run: Found, name: str) -> str:
    """With ``compare --student``, too, which is in no config's name, but in
    that of the folder of all runs: ``compare_camvid+mobilenetv2_s16``."""
    folder = os.path.basename(os.path.dirname(os.path.abspath(run.folder)))
    named = folder.removeprefix('compare_')
    return named if named.startswith(f'{name}+') else name


def _name_as_noted(runs: Iterable[Found], noted: Iterable[Run]) -> None:
    """Where ``compare --student`` has another ``--work-dir``, only a ledger
    says which student it is: of the run that came to the same."""
    by_marks = {_marks(entry): entry for entry in noted}
    for run in runs:
        entry = run.entry() if by_marks else None
        known = by_marks.get(_marks(entry)) if entry else None
        if known:
            run.experiment = known['experiment']
            run.other_network = known.get('other_network', False)


def _marks(entry: Run) -> tuple:
    return tuple(entry[key] for key in KINDS if key != 'experiment')


def read_config(run: Found) -> Config:
    """The config of the last stage as it was dumped there, with its places.

    Paths in it are relative to the folder that the training was started in;
    where they lead nowhere from here, they are looked for from there.

    Raises:
        UserError: There is none.
    """
    own = os.path.join(run.last, f'{run.record.get("config")}.py')
    escaped = glob.escape(run.last)
    paths = [own] * os.path.isfile(own) or [
        *glob.glob(os.path.join(escaped, '*.py')),
        *sorted(glob.glob(os.path.join(escaped, '*', 'vis_data', 'config.py')))
    ]
    if not paths:
        raise UserError(f'{run.last} holds no config')
    cfg = read_dumped(paths[-1])
    told, here = cfg.get('work_dir') or '', os.path.abspath(run.last)
    tail = os.sep + os.path.normpath(told)
    if told and here.endswith(tail):
        _place(cfg, here.removesuffix(tail))
    return cfg


def _place(cfg: Config, root: str) -> None:

    def placed(node: dict, key: str) -> None:
        path = node.get(key)
        if isinstance(path, str) and not os.path.exists(path):
            there = os.path.join(root, path)
            node[key] = there if os.path.exists(there) else path

    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in unwrapped((cfg.get(loader) or {}).get('dataset')):
            placed(dataset, 'data_root')
    for hook in [*hooks_of(cfg, TeacherHook), cfg.get('teacher') or {}]:
        placed(hook, 'checkpoint')
        placed(hook, 'model')


def teacher_checkpoint(run: Found) -> str:
    """The weights that its teacher has; '' without a teacher."""
    for hook in hooks_of(run.cfg or {}, TeacherHook):
        return hook.get('checkpoint') or ''
    return ''


def _check_data(runs: Sequence[Found]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.cfg and first.cfg and run.data != first.data:
            raise UserError(
                f'the runs are of different data sets: {first.folder} is of '
                f'{first.data}, {run.folder} of {run.data}; make a report of '
                'each')


def _name_teachers(runs: Sequence[Found]) -> None:
    folders = {
        os.path.dirname(os.path.realpath(teacher_checkpoint(run)))
        for run in runs if teacher_checkpoint(run)
    }
    for run in runs:
        if os.path.realpath(run.last) in folders and run.method == ALONE:
            run.method = TEACHER


def _mark_other_networks(runs: Sequence[Found]) -> None:
    """Such as HND's, the teacher's tail behind a small head."""
    alone = {
        run.experiment: run.cfg.get('model')
        for run in runs if run.cfg and run.method == ALONE
    }
    for run in runs:
        if run.cfg and run.method not in (ALONE, TEACHER):
            own = run.cfg.get('model')
            run.other_network |= own != alone.get(run.experiment, own)


def _tell_apart(runs: Sequence[Found]) -> None:
    """Two runs that differ, but not by method, seed and length: by folder."""
    known: dict[tuple, str] = {}
    for run in runs:
        key = (run.method, *(getattr(run, name) for name in PAIR))
        if known.setdefault(key, run.folder) != run.folder:
            run.method = os.path.relpath(run.folder)

"""Runs the stages of a config, one ordinary run each, in their own folders.

``stages = dict(translator=dict(...), distill=dict())``: each is a set of
changes to the rest of the config. In a stage

- ``'stage:NAME'`` stands for the last checkpoint of an earlier one;
- ``custom_hooks = dict(KAHook=dict(type='TranslatorHook'))`` puts another hook
  in the place of the one of that type or name, without ``type`` it changes
  settings of it, and None leaves it out; a list replaces all hooks; where one
  of the changes trains parts of its own alone, as a translator, the hooks that
  need the student and are not changed are left out;
- ``task=False``: the student learns from the teacher alone. Its forward ends
  at the last tapped map, and what lies above that stays as it is;
- ``train_cfg=dict(max_iters=0.1)`` is a tenth of the config's own iterations.

A config without stages is one run, in the work directory itself.
"""
import copy
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.hooks import EMAHook
from mmengine.registry import RUNNERS, init_default_scope

from seg_kd import shipped
from seg_kd.engine import disk, lock, log, lost_workers, processes, provenance
from seg_kd.engine.complete import (apply_changes, change_hooks,
                                    complete_hooks, named_hooks, pick, plain,
                                    replaced, resolve)
from seg_kd.engine.ending import EndingHook
from seg_kd.engine.needs import check_ahead, check_stage
from seg_kd.engine.records import (checkpoints, latest_checkpoint,
                                   newest_whole, noted_checkpoint, read_record,
                                   weight_files, write_record)
from seg_kd.engine.settings import (check_references, check_settings,
                                    check_shape)
from seg_kd.errors import UserError
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS, as_list, is_kind

_RUNS = itertools.count()
# What makes a run what it is; the rest may differ in its continuation.
_DECISIVE = ('model', 'custom_hooks', 'train_cfg', 'train_dataloader',
             'optim_wrapper', 'param_scheduler', 'randomness', 'load_from',
             'auto_scale_lr', 'model_wrapper_cfg', 'sync_bn')
_FREE = ('train_cfg.val_', 'train_dataloader.num_workers',
         'train_dataloader.persistent_workers', 'train_dataloader.pin_memory')


def run_stages(cfg: Config, work_dir: str, resume: bool = False) -> None:
    """Trains all stages of ``cfg`` in order.

    A finished stage is not run again unless its settings, or those of a stage
    before it, have changed; then its old folder is set aside, not deleted.

    Args:
        cfg: The whole config.
        work_dir: Folder of the run; stages get a folder each in it.
        resume: Go on in the stage, and at the iteration, that was cut off.

    Raises:
        UserError: ``work_dir`` holds a run that this one must not touch, or
            one that another process is at.
        SystemExit: With status 143, upon SIGTERM: all is saved.
    """
    stages = list(stage_configs(cfg))
    check_settings(stages)  # of all, before anything is written
    check_references(stages)
    processes.join(cfg.get('launcher') or 'none', cfg.get('env_cfg') or {})
    ending = EndingHook()
    with ending.listening(), disk.explained(work_dir), \
            processes.reported(), lock.owned(work_dir):
        _run_stages(cfg, stages, work_dir, resume, ending)


def _run_stages(cfg: Config, stages: list[tuple[str, Config]], work_dir: str,
                resume: bool, ending: EndingHook) -> None:
    name = shipped.stem(cfg.filename or 'config.py')
    here = cfg.filename and os.path.isfile(cfg.filename)
    place = shipped.title(cfg.filename) if here else None
    done: dict[str, str | None] = {}
    history = ''
    for number, (stage, stage_cfg) in enumerate(stages, 1):
        stage_cfg.stage = place_of(stages, number)
        folder = os.path.join(work_dir, stage) if stage else work_dir
        fill_in(stage_cfg, done, work_dir)
        settings = {**decisive_settings(stage_cfg), 'after': history}
        record = dict(config=name,
                      place=place,
                      settings=settings,
                      checkpoints=_checkpoints_of(stage_cfg, folder),
                      finished=False)
        if not processes.on_main(
                partial(
                    _finished, folder, record, resume, _decisive(stage_cfg),
                    [os.path.join(work_dir, s) for s, _ in stages[number:]])):
            for name_and_cfg in stages[number:]:
                check_ahead(*name_and_cfg)
            _train(stage_cfg, folder, record, resume, ending)
        if stage:
            done[stage] = latest_checkpoint(folder)
            history = _history(folder)


def _history(folder: str) -> str:
    """A hash of a stage and those before it, with paths as it was trained."""
    record = read_record(folder) or {}
    text = json.dumps(record.get('settings'), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _decisive(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {key: cfg[key] for key in _DECISIVE if key in cfg}


def _checkpoints_of(cfg: Config, folder: str) -> str:
    """Where MMEngine's CheckpointHook puts those of a stage."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    place = hook.get('out_dir')
    return os.path.join(place, os.path.basename(folder.rstrip(
        os.sep))) if place else folder


def place_of(stages: list[tuple[str, Config]], number: int) -> dict[str, Any]:
    """What a stage knows of the whole training: for the log, and its ETA.

    Args:
        stages: Name and complete config of each.
        number: Of the stage, counted from 1.
    """
    later = [
        dict(train_cfg=cfg.get('train_cfg'),
             validates=cfg.get('val_cfg') is not None)
        for _, cfg in stages[number:]
    ]
    return plain(
        dict(name=stages[number - 1][0],
             number=number,
             of=len(stages),
             later=later))


def stage_configs(cfg: Config) -> Iterator[tuple[str, Config]]:
    """Name and complete config of each stage; name '' where there is one.

    A config that names no runner gets ours: stopping, resuming and checks are
    the same for a plain MMSegmentation config. The last stage alone has an
    EMA, unless another one names it: an average over a short stage is mostly
    what the stage began with, and the next one would go on from that.
    """
    stages = named_stages(cfg) or {'': {}}
    check_shape(cfg)
    for name, changes in stages.items():
        stage = copy.deepcopy(cfg)
        stage.pop('stages', None)
        apply_changes(stage)
        check_shape(changes, f'stages.{name}.')
        if not isinstance(changes.get('task', True), bool):
            raise UserError(f'stages.{name}.task: True or False is wanted, '
                            f"not {changes['task']!r:.80}")
        _change(stage, plain(changes), averaged=name == list(stages)[-1])
        length = (changes.get('train_cfg') or {}).get('max_iters')
        if isinstance(length, float):
            whole = cfg.train_cfg.get('max_iters')
            if not 0 < length <= 1 or not isinstance(whole, int):
                raise UserError(
                    f'stages.{name}.train_cfg.max_iters: {length} is a part '
                    f"of the config's own max_iters, {whole}: above 0, and 1 "
                    'at most')
            stage.train_cfg.max_iters = max(1, round(length * whole))
        resolve(stage)
        stage.setdefault('runner_type', 'DistillRunner')
        yield name, stage


def named_stages(cfg: Config) -> dict[str, Any]:
    """The changes of each stage by its name, in their order.

    Raises:
        UserError: One has no name, or that of another.
    """
    stages = cfg.get('stages') or {}
    entries = stages.values() if isinstance(stages, dict) else stages
    if not isinstance(stages, (dict, list)) or not all(
            isinstance(entry, (dict, type(None))) for entry in entries):
        raise UserError('stages: a dict of each by its name is wanted, with '
                        f'what it changes, not {stages!r:.80}')
    if isinstance(stages, dict):
        return {name: changes or {} for name, changes in stages.items()}
    names = [stage.get('name') for stage in stages]
    if None in names or len(set(names)) < len(names):
        raise UserError(f'each stage needs a name of its own, got {names}')
    rest = [{k: v for k, v in s.items() if k != 'name'} for s in stages]
    return dict(zip(names, rest))


def _change(cfg: Config, changes: dict[str, Any], averaged: bool) -> None:
    hooks = changes.pop('custom_hooks', None)
    task = changes.pop('task', True)
    cfg.merge_from_dict(changes)
    if not task:
        cfg.task = False
        _without_task(cfg)
    teacher = cfg.get('teacher')
    if isinstance(hooks, list):
        cfg.custom_hooks = complete_hooks(hooks, teacher)
        return
    named = named_hooks(cfg.get('custom_hooks'), teacher)
    own = [pick(name, named, 'custom_hooks') for name in hooks or {}]
    averages = [
        hook for key, hook in named.items()
        if not averaged and key not in own and is_kind(hook, HOOKS, EMAHook)
    ]
    if hooks or cfg.get('custom_hooks'):
        changed = change_hooks(named, hooks or {})
        cfg.custom_hooks = [hook for hook in changed if hook not in averages]


def stage_folders(cfg: Config, work_dir: str) -> list[str]:
    """Where the stages of a run go; the run's own where there are none."""
    return [os.path.join(work_dir, name)
            for name in named_stages(cfg)] or [work_dir]


def _without_task(cfg: Config) -> None:
    """All losses of the student's heads at weight 0, should they be run."""
    for head in heads_of(cfg.model):
        for loss in as_list(head.get('loss_decode')):
            loss['loss_weight'] = 0.


def heads_of(model: Mapping[str, Any]) -> list[Any]:
    """The decode heads of a segmentor's config, then its auxiliary heads."""
    return [
        *as_list(model.get('decode_head')),
        *as_list(model.get('auxiliary_head'))
    ]


def fill_in(cfg: Config,
            done: Mapping[str, str | None],
            work_dir: str = '') -> None:
    """Replaces every ``'stage:NAME'`` by that stage's checkpoint.

    Raises:
        UserError: There is no such stage before, or no such checkpoint.
    """

    def checkpoint(stage: str) -> str:
        if stage not in done:
            raise UserError(f"'stage:{stage}' names no stage before this one; "
                            f'there are: {sorted(done)}')
        found = done[stage]
        if found is None:
            raise UserError(
                f'the stage {stage!r} left no checkpoint in '
                f"{os.path.join(work_dir, stage)}, and 'stage:{stage}' needs "
                'it: see that its CheckpointHook writes one, remove the '
                'folder and train again')
        return found

    for key in _DECISIVE:
        if key in cfg:
            cfg[key] = replaced(cfg[key], 'stage:', checkpoint)


def decisive_settings(cfg: Config) -> dict[str, Any]:
    """The settings that make a run what it is, flat and as JSON has them."""
    flat: dict[str, Any] = {}

    def visit(key: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                visit(f'{key}.{name}' if key else name, value)
        elif not key.startswith(_FREE):
            text = json.dumps(node, default=str)
            # as runs say it that are older than this scope
            flat[key] = json.loads(text.replace('"seg_kd::', '"configs/'))

    visit('', _decisive(cfg.to_dict()))
    return flat


def _finished(folder: str, record: dict[str, Any], resume: bool,
              decisive: dict[str, Any], later: list[str]) -> bool:
    """Is the run done? Makes way for it, or refuses, where it must.

    In the main process alone; ``decisive`` is what of the config decides,
    ``later`` are the folders of the stages that go on from it.
    """
    old = read_record(folder)
    if old is None:
        if latest_checkpoint(folder):
            raise UserError(f'{folder} holds checkpoints of another program; '
                            'choose another --work-dir')
        return False
    if not (old['finished'] or weight_files(folder)
            or latest_checkpoint(folder)):
        if noted_checkpoint(folder):
            raise _without_last(folder)
        # all that it holds is its log
        from_start = 'there is nothing to resume, ' if resume else ''
        _set_aside(
            folder, 'a run ended here before its first checkpoint, '
            f'{from_start}this one takes its place')
        return False
    if old['config'] != record['config']:
        raise UserError(f'{folder} holds a run of the config '
                        f'{old["config"]!r}, not {record["config"]!r}; choose '
                        'another --work-dir')
    changed = _changes(old['settings'], record['settings'])
    if old['finished']:
        changed += provenance.changed_weights(
            old.get('made_of') or {}, decisive)
        if not changed:
            print(f'{folder}: finished, nothing to do')
            return True
    if changed and old.get('place', record['place']) != record['place']:
        raise UserError(
            f'{folder} holds a run of the config {old["place"]}, not '
            f'{record["place"]} ({", ".join(changed[:4])} differ); choose '
            'another --work-dir')
    if changed and not old['finished']:
        raise UserError(
            f'{folder} holds an unfinished run with other settings ('
            f'{", ".join(changed[:4])}); go on with those, or choose another '
            '--work-dir')
    if changed:
        _check_later(folder, changed, later)
        _set_aside(
            folder, f'the settings have changed ({", ".join(changed[:4])}), '
            'it runs again')
    elif not resume:
        raise UserError(f'{folder} holds an unfinished run: add --resume to '
                        'go on with it, or choose another --work-dir')
    elif not latest_checkpoint(folder):
        if noted_checkpoint(folder):
            raise _without_last(folder)
        _set_aside(
            folder, 'there is no checkpoint to go on from, only a best one: '
            'it starts again')
    return False


def _without_last(folder: str) -> UserError:
    return UserError(
        f'{folder} holds an unfinished run whose last checkpoint, '
        f'{noted_checkpoint(folder)}, is not there: put it back, '
        'or choose another --work-dir')


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    keys = sorted(old.keys() | new.keys())
    return [
        'an earlier stage' if key == 'after' else key for key in keys
        if _placed(old.get(key)) != _placed(new.get(key))
    ]


def _placed(value: Any) -> Any:
    """With one spelling of each path: ``./a/b`` and ``a/b`` are the same."""
    return replaced(value, '', os.path.realpath)


def _check_later(folder: str, changed: list[str], later: list[str]) -> None:
    """Raises UserError where what is to run again has been gone on from."""
    for other in later:
        run = read_record(other)
        if run and not run['finished'] and latest_checkpoint(other):
            raise UserError(
                f'{folder} was trained with other settings '
                f'({", ".join(changed[:4])}), and {other} holds an unfinished '
                'run that goes on from it: go on with those settings, or '
                'choose another --work-dir')


def _set_aside(folder: str, why: str) -> None:
    """Moves an old run, whose log would be read as that of the new one."""
    kept = folder.rstrip(os.sep) + time.strftime('.before_%Y%m%d_%H%M%S')
    lock.move(folder, kept)
    print(f'{folder}: {why}; the old run is kept in {kept}')


def _train(cfg: Config, folder: str, record: dict[str, Any], resume: bool,
           ending: EndingHook) -> None:
    cfg.work_dir = folder
    # MMEngine keeps loggers by name and second: one process may be faster.
    slug = os.path.abspath(folder).replace(os.sep, '_')
    cfg.experiment_name = f'{slug}_{next(_RUNS)}'
    if cfg.get('visualizer'):  # one instance a stage: each has its own folder
        cfg.visualizer.pop('name', None)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    check_stage(cfg)
    record['made_of'] = processes.on_main(lambda: _made_of(cfg, folder))
    record['measured'] = processes.on_main(lambda: provenance.measured_by(cfg))
    goes_on = processes.on_main(lambda: resume and bool(checkpoints(folder)))
    if goes_on:
        cfg.resume, cfg.load_from = True, None
        given = cfg.get('randomness') or {}
        if given.get('seed') is None:  # a drawn one, too: data come first
            drawn = processes.on_main(lambda: read_record(folder).get('seed'))
            cfg.randomness = {**given, 'seed': drawn}
    with log.let_go():
        runner = RUNNERS.build(cfg)
        if goes_on:
            runner._load_from = processes.on_main(
                lambda: newest_whole(folder,
                                     unwrap_model(runner.model).state_dict()))
        record['seed'] = runner.seed
        write_record(folder, record)
        runner.register_hook(ending)
        lost_workers.reported(runner.train)
    write_record(folder, {**record, 'finished': True})
    barrier()  # the next stage reads what the main process has written


def _made_of(cfg: Config, folder: str) -> dict[str, Any]:
    """Of a run that goes on, as it began; what differs is said or refused."""
    made = provenance.made_of(_decisive(cfg))
    began = (read_record(folder) or {}).get('made_of')
    if not (began and latest_checkpoint(folder)):
        return made
    said = provenance.compare(folder, began, made)
    if said:
        print(f'warning: {said}')
    return began

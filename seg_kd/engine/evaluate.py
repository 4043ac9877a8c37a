"""Evaluation of a trained student or of its teacher, each as a plain model."""
import os
import warnings
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import RUNNERS, init_default_scope
from torch import nn

from seg_kd.engine.needs import check_teacher, require_checkpoint
from seg_kd.engine.settings import check_settings
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.registry import HOOKS, MODELS, as_list, is_kind, type_name
from seg_kd.teacher.build import build_teacher
from seg_kd.teacher.teacher import checked_scale


def evaluate_student(cfg: Config, checkpoint: str,
                     **options: Any) -> dict[str, float]:
    """Metrics of the student on the test set.

    Args:
        cfg: A training config; of stages the last counts.
        checkpoint: The student's. Distillation parts in it are left out.
        options: ``tta``, ``out`` and ``show_dir``, see :func:`evaluate`.

    Raises:
        UserError: The checkpoint does not fill the student.
    """
    cfg = last_stage(cfg)
    model, _ = load_student(cfg, checkpoint)
    return evaluate(cfg, model, 'student', **options)


def load_student(cfg: Config,
                 checkpoint: str) -> tuple[nn.Module, dict[str, Any]]:
    """The student with all its weights, in eval mode, and its checkpoint.

    Args:
        cfg: A complete config: of stages the last.
        checkpoint: The student's. Distillation parts in it are left out.

    Raises:
        UserError: The model cannot be built, or the checkpoint does not fill
            it.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    require_checkpoint(checkpoint)
    content = read_checkpoint(checkpoint, cfg.get('trust_checkpoint', False))
    model = build_student(cfg)
    load_weights(model, content, f'checkpoint {checkpoint}')
    return model.eval(), content


def build_student(cfg: Config) -> nn.Module:
    """The student with random weights.

    Raises:
        UserError: It cannot be built.
    """
    if not cfg.get('model'):
        raise UserError(f'{cfg.filename} describes no model')
    cfg.model.pop('pretrained', None)  # the checkpoint has all weights
    try:
        return MODELS.build(cfg.model)
    except (UserError, TypeError):  # of arguments, which the caller explains
        raise
    except Exception as error:  # a constructor can fail in any way
        if isinstance(error, KeyError) and 'registry' in str(error):
            raise  # a type that nobody knows, which the caller explains
        raise UserError(f'the model of {cfg.filename} cannot be built: '
                        f'{type(error).__name__}: {error}') from error


def evaluate_teacher(cfg: Config, **options: Any) -> dict[str, float]:
    """The same for the teacher that the config's ``TeacherHook`` names."""
    cfg = last_stage(cfg)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    scale = checked_scale(teacher_of(cfg).get('scale', 1))
    if scale != 1:
        check_test_data(cfg)
        cfg.test_dataloader.finer = dict(scale=scale, instead=True)
    return evaluate(cfg, teacher_network(cfg)[0], 'teacher', **options)


def teacher_network(cfg: Config) -> tuple[nn.Module, dict[str, Any]]:
    """The teacher of a complete config by itself, and its checkpoint."""
    hook = HOOKS.build(dict(teacher_of(cfg)))
    return build_teacher(hook.model, hook.checkpoint, hook.trust_checkpoint,
                         MODELS.build(cfg.model.data_preprocessor))


def teacher_of(cfg: Config, trained: bool = True) -> ConfigDict:
    """The config of the teacher's hook, in a complete config.

    Raises:
        UserError: There is none, or, if it is to be ``trained``, its weights
            are missing.
    """
    hooks = cfg.get('custom_hooks') or [cfg.get('teacher')]
    for hook in hooks_of(dict(custom_hooks=hooks), TeacherHook):
        if trained:
            check_teacher(dict(custom_hooks=[hook], fold=cfg.get('fold')))
        return hook
    raise UserError(f'{cfg.filename} has no teacher: there is no TeacherHook '
                    'in custom_hooks')


def evaluate(cfg: Config,
             model: nn.Module,
             name: str,
             tta: bool = False,
             out: str | None = None,
             show_dir: str | None = None) -> dict[str, float]:
    """Runs the test loop over ``model``.

    Args:
        cfg: Gives the data and the metric.
        model: With its weights.
        name: Of the folders, where ``out`` and ``show_dir`` may hold several.
        tta: Merge the predictions over ``cfg.tta_pipeline``.
        out: Folder for predictions as label PNGs.
        show_dir: Folder for images with predictions painted over.

    Raises:
        UserError: The config has no test data, or ``tta`` without
            ``tta_model`` and ``tta_pipeline``.
    """
    check_test_data(cfg)
    cfg.load_from, cfg.resume = None, False
    cfg.experiment_name = f'test_{name}'.replace(' ', '_')
    if cfg.get('visualizer'):  # one instance a run, as in stages.py
        cfg.visualizer.pop('name', None)
    cfg.custom_hooks = plain_hooks(cfg)
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper',
                'param_scheduler', 'val_dataloader', 'val_cfg',
                'val_evaluator'):
        cfg[key] = None
    if tta:
        if not cfg.get('tta_model') or not cfg.get('tta_pipeline'):
            raise UserError(
                f'{cfg.filename} sets no tta_model and tta_pipeline')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        model = MODELS.build(dict(cfg.tta_model, module=model))
    folders = cfg.test_dataloader.dataset.get('data_prefix')
    if folders is not None and not folders.get('seg_map_path'):
        folders.pop('seg_map_path', None)
        _without_labels(cfg, bool(out))
    if out:
        _set(cfg.test_evaluator, 'output_dir', os.path.join(out, name))
    if show_dir:
        cfg.default_hooks.visualization = dict(type='SegVisualizationHook',
                                               draw=True,
                                               interval=1)
        cfg.visualizer = dict(type='SegLocalVisualizer',
                              vis_backends=[dict(type='LocalVisBackend')],
                              save_dir=os.path.join(show_dir, name))
    runner = RUNNERS.build(cfg)
    runner.model = model.to(get_device())
    with warnings.catch_warnings():  # of mmseg's own merging of predictions
        warnings.filterwarnings('ignore', 'The shape of value will convert')
        return runner.test()


def check_test_data(cfg: Config) -> None:
    """Raises UserError if a config does not say what is tested on."""
    if not (cfg.get('test_dataloader') or {}).get('dataset'):
        raise UserError(f'{cfg.filename} has no test_dataloader: write '
                        'test_dataloader = val_dataloader, test_evaluator = '
                        'val_evaluator and test_cfg = dict(type=\'TestLoop\')')


def last_stage(cfg: Config) -> Config:
    stages = list(stage_configs(cfg))
    check_settings(stages[-1:])
    return stages[-1][1]


def plain_hooks(cfg: Config) -> list[ConfigDict]:
    """The hooks of a complete config but for those that train a student."""
    return [
        hook for hook in cfg.get('custom_hooks') or []
        if not is_kind(hook, HOOKS, (TeacherHook, DistillHook))
    ]


def _without_labels(cfg: Config, out: bool) -> None:
    """Predicts without measuring: what loads or scores labels goes."""
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline = label_free(dataset.pipeline)
    for transform in dataset.pipeline:
        if type_name(transform) == 'TestTimeAug':
            kept = map(label_free, transform.transforms)
            transform.transforms = [moves for moves in kept if moves]
    if out:
        _set(cfg.test_evaluator, 'format_only', True)
    else:
        cfg.test_evaluator = []


def label_free(pipeline: list) -> list:
    """The transforms but those that load or check labels."""
    return [
        transform for transform in pipeline
        if type_name(transform) not in ('LoadAnnotations', 'CheckLabels')
    ]


def _set(evaluators, key: str, value: Any) -> None:
    for evaluator in as_list(evaluators):
        evaluator[key] = value

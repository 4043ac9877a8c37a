"""The base class of all methods: a term of a config."""
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from torch import nn

from seg_kd.distiller import Path, Term
from seg_kd.errors import UserError
from seg_kd.registry import HOOKS, is_kind


class DistillHook(Hook):
    """Adds ``loss_<name> = weight * loss_cls()(student, teacher, mask)``.

    A method is a subclass that names its ``loss_cls``. All it does is to hold
    the :class:`~seg_kd.distiller.Term` that
    :class:`~seg_kd.hooks.student.StudentHook` adds; an unusual one names a
    ``term_cls`` of its own.

    Args:
        student: Layer path, or several where the method compares several.
        teacher: The same in the teacher.
        name: Name of the term in the log; the method's own by default.
        loss: Arguments of ``loss_cls``, as a dict; needed for those that are
            named like one of the hook's.
        settings: Of :class:`~seg_kd.distiller.Term` (``weight``, ``start``,
            ``end``, ``warmup``, ``auto_ratio``, ``auto_iters``,
            ``teacher_name``, ``lr_mult``, ``connector_iters``), and of
            ``loss_cls``.
    """

    loss_cls: type[nn.Module]
    term_cls: type[Term] = Term
    term_name: str | None = None  # default: from the name of the class
    needs_student = True  # False: it trains its own parts alone

    def __init__(self,
                 student: Path,
                 teacher: Path,
                 name: str | None = None,
                 loss: Mapping[str, Any] | None = None,
                 **settings: Any) -> None:
        name = name or self.term_name
        own = type(self).__name__.removesuffix('Hook').lower()
        self.term = self.term_cls(self.loss_cls,
                                  student,
                                  teacher,
                                  name or own,
                                  arguments=loss,
                                  **settings)

    @property
    def name(self) -> str:
        return self.term.name

    def prepare(self, runner) -> None:
        """Gives the term what the runner knows, before anything is built."""

    def before_run(self, runner) -> None:
        check_built(self.term.teacher_name is not None)


def check_built(built: bool) -> None:
    """Raises UserError in a runner that does not know these hooks."""
    if not built:
        raise UserError('distillation hooks need a runner that builds them '
                        "before it wraps the model: set runner_type="
                        "'DistillRunner' in the config")


def hooks_of(cfg: Config | dict, kind: type) -> Iterator[ConfigDict]:
    """Those of a kind among the hooks that a config names."""
    for hook in cfg.get('custom_hooks') or []:
        if is_kind(hook, HOOKS, kind):
            yield hook

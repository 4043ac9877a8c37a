"""What the distillation hooks of a runner ask of the two networks."""
from typing import Dict, List, Tuple

from seg_kd.errors import UserError


def tapped_paths(runner) -> Tuple[List[str], List[str]]:
    """All layer paths that the runner's distillation hooks name."""
    from seg_kd.hooks.distill import DistillHook, paths
    hooks = [h for h in runner.hooks if isinstance(h, DistillHook)]
    student = [p for h in hooks for p in paths(h.student)]
    teacher = [p for h in hooks for p in paths(h.teacher)]
    teacher += [h.teacher_logits for h in hooks if h.teacher_logits]
    if not hooks:
        raise UserError('TeacherHook is alone: add a distillation hook to '
                        'custom_hooks, or remove the teacher')
    return student, teacher


def differentiated_paths(runner) -> Dict[str, List[str]]:
    """By the path of its logits: maps that the teacher is differentiated by.
    """
    from seg_kd.hooks.distill import DistillHook, paths
    found: Dict[str, List[str]] = {}
    for hook in runner.hooks:
        if isinstance(hook, DistillHook) and hook.teacher_logits:
            wanted = found.setdefault(hook.teacher_logits, [])
            wanted += [p for p in paths(hook.teacher) if p not in wanted]
    return found

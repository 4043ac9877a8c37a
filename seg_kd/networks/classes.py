"""Do the teacher, the student and the data speak of the same classes?"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

from torch import nn

from seg_kd.errors import UserError


def class_names(checkpoint: Dict[str, Any]) -> Optional[Tuple[str, ...]]:
    """Classes that the checkpoint was trained on, if it says so."""
    meta = checkpoint.get('meta', {})
    names = meta.get('dataset_meta', {}).get('classes', meta.get('CLASSES'))
    return None if names is None else tuple(names)


def check_class_names(trained_on: Optional[Sequence[str]], data: Sequence[str],
                      source: str) -> None:
    """Raises UserError where the two lists of names differ."""
    if trained_on is None or tuple(trained_on) == tuple(data):
        return
    if len(trained_on) != len(data):
        detail = f'{len(trained_on)} classes, the data has {len(data)}'
    else:
        i = next(i for i, (a, b) in enumerate(zip(trained_on, data)) if a != b)
        detail = (f'class {i} is {trained_on[i]!r}, in the data it is '
                  f'{data[i]!r}')
    raise UserError(f'the teacher of {source} was trained on other classes: '
                    f'{detail}; take a teacher for this data set, or, for its '
                    'features alone, TeacherHook(allow_other_classes=True)')


def heads(model: nn.Module) -> List[nn.Module]:
    """The decode heads of a segmentor, then its auxiliary heads."""
    found: List[nn.Module] = []
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        if head is not None:
            found += head if isinstance(head, nn.ModuleList) else [head]
    return found


def check_num_classes(model: nn.Module, data: Sequence[str],
                      owner: str) -> None:
    """Raises UserError where a head has more or fewer outputs than classes."""
    for head in heads(model):
        if head.num_classes != len(data):
            raise UserError(
                f'the {type(head).__name__} of {owner} has '
                f'{head.num_classes} classes, the data set has {len(data)}: '
                f'set num_classes={len(data)} in its config, or take the '
                'right data')

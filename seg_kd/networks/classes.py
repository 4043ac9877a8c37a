"""Do the teacher, the student and the data speak of the same classes?"""
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from seg_kd.errors import UserError


def class_names(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Classes that the checkpoint was trained on, if it says so."""
    meta = checkpoint.get('meta') or {}
    data = meta.get('dataset_meta')
    names = data.get('classes') if isinstance(data, dict) else None
    names = meta.get('CLASSES') if names is None else names
    return tuple(names) if isinstance(names, (list, tuple)) else None


def check_class_names(trained_on: Sequence[str] | None, data: Sequence[str],
                      source: str) -> None:
    """Raises UserError where the two lists of names differ."""
    detail = other_classes(trained_on, data)
    if detail:
        raise UserError(
            f'the teacher of {source} was trained on other classes: {detail}; '
            'take a teacher for this data set, or, for its features alone, '
            'TeacherHook(allow_other_classes=True)')


def other_classes(trained_on: Sequence[str] | None,
                  data: Sequence[str]) -> str:
    """How the first list of names differs from the second, or ''."""
    if trained_on is None or tuple(trained_on) == tuple(data):
        return ''
    if len(trained_on) != len(data):
        return f'{len(trained_on)} classes, the data has {len(data)}'
    i = next(i for i, (a, b) in enumerate(zip(trained_on, data)) if a != b)
    return f'class {i} is {trained_on[i]!r}, in the data it is {data[i]!r}'


def heads(model: nn.Module) -> list[nn.Module]:
    """The decode heads of a segmentor, then its auxiliary heads."""
    found: list[nn.Module] = []
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        if head is not None:
            found += head if isinstance(head, nn.ModuleList) else [head]
    return found


def threshold_of(model: nn.Module) -> float | None:
    """Of a head with one output, for two classes; None of others."""
    head = getattr(model, 'decode_head', None)
    return getattr(head, 'threshold', None)


def labels_of(logits: Tensor, threshold: float | None) -> Tensor:
    """The class at each pixel, as MMSegmentation's tests choose it.

    Args:
        logits: Of all classes, or one of the second of two, without sigmoid.
        threshold: Of a head with one output: :func:`threshold_of`.

    Shape:
        ``(N, C, H, W) -> (N, H, W)`` int64.
    """
    if logits.shape[1] == 1:
        return (logits[:, 0].sigmoid() > threshold).long()
    return logits.argmax(1)


def check_num_classes(model: nn.Module,
                      data: Sequence[str],
                      owner: str,
                      auxiliary: bool = True) -> None:
    """Raises UserError where a head has more or fewer outputs than classes.

    Args:
        model: A segmentor.
        data: Names of its classes.
        owner: For the message.
        auxiliary: Whether the auxiliary heads matter; even then not those
            with labels of their own, as of the boundaries of classes.
    """
    for head in heads(model):
        if not is_main(head, model) and not (auxiliary and plain(head)):
            continue
        if head.num_classes != len(data):
            raise UserError(
                f'the {type(head).__name__} of {owner} has '
                f'{head.num_classes} classes, the data set has {len(data)}: '
                f'set num_classes={len(data)} in its config, or take the '
                'right data')


def is_main(head: nn.Module, model: nn.Module) -> bool:
    main = model.decode_head
    return head in main if isinstance(main, nn.ModuleList) else head is main


def plain(head: nn.Module) -> bool:
    """Whether it compares with the labels as they are: MMSegmentation's."""
    made = getattr(type(head), 'loss_by_feat', None)
    return made is None or made.__qualname__.startswith('BaseDecodeHead.')

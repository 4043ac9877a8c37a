"""The frozen teacher: one pass per batch, for all that learns from it."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seg_kd.errors import UserError
from seg_kd.networks.finite import FirstBad, finite
from seg_kd.networks.taps import Taps, parse
from seg_kd.teacher.precision import CastWeights, Precision
from seg_kd.teacher.side_stream import SideStream
from seg_kd.teacher.task_gradients import TaskGradients

if TYPE_CHECKING:
    from seg_kd.teacher.cache.cache import TeacherCache

MODES = 'eval', 'bn_train'
Maps = dict[str, Tensor]
Key = TypeVar('Key')


@dataclass
class Step:
    """What the teacher says of one batch, and what distillation makes of it.

    Attributes:
        labels: ``(N, H, W)``, if the batch has any.
        mask: What is distilled, ``(N, H, W)``: where the labels count, and
            all of images without; None: everything.
        samples: What the training loop knows of each image.
        terms: The losses that distillation has added, weighted, by name.
        logged: What it found besides: measured weights and their like.
        labelled: Where the labels count; ``mask`` unless it is given.
    """

    labels: Tensor | None = None
    mask: Tensor | None = None
    samples: Any = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    logged: dict[str, Tensor] = field(default_factory=dict)
    labelled: Tensor | None = None
    side_stream: SideStream | None = None
    _maps: Maps = field(default_factory=dict)
    _gradients: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labelled is None:
            self.labelled = self.mask

    @property
    def maps(self) -> Maps:
        """The teacher's, by layer path."""
        self._join()
        return self._maps

    @property
    def gradients(self) -> dict[tuple[str, str], Tensor]:
        """Those of its task, by (path of the logits, path of the map)."""
        self._join()
        return self._gradients

    def _join(self) -> None:
        if self.side_stream is not None:
            self.side_stream.join(
                [*self._maps.values(), *self._gradients.values()])


@dataclass(eq=False, repr=False)
class Teacher:
    """A network that is tapped, frozen, and no part of any module::

        teacher = Teacher(network)
        shapes = teacher.tap(['backbone[3]'], image)
        step = teacher(images, labels)
        step.maps['backbone[3]']

    It runs without gradients, in eval mode, and only as far as to the deepest
    tapped layer. All that follows the network is a part that may be absent.

    Args:
        network: Any module that takes images.
        mode: ``'eval'``, or ``'bn_train'``: batch norm with the statistics of
            the batch, the running ones untouched.
        renormalize: From the student's images to the teacher's.
        precision: Autocast of its own
            (:class:`~seg_kd.teacher.precision.Precision`).
        side_stream: Where it is enqueued on a GPU.
        ignore_index: Label that does not count.
        align_corners: How the network enlarges its logits.
        source: Where its weights came from, for messages.
        scale: Height and width of its images, in those of the student's: a
            whole number. Its maps, and the gradients at them, are averaged
            over ``scale x scale`` positions, which gives the grid that it
            would have at scale 1. So they know what it saw in the finer
            image, no loss costs more, and nothing that is kept is larger.
        finer: From a batch, ``(images, samples)``, to these images, as the
            student's are normalized: ``(N, C, scale * H, scale * W)``.
    """

    network: nn.Module
    mode: str = 'eval'
    renormalize: Callable[[Tensor], Tensor] | None = None
    precision: Callable[[torch.device], AbstractContextManager] | None = None
    side_stream: SideStream | None = None
    ignore_index: int = 255
    align_corners: bool = False
    source: str = ''
    scale: int = 1
    finer: Callable[[Tensor, Any], Tensor] | None = None

    def __post_init__(self) -> None:
        # gives the maps in the network's place
        self.cache: TeacherCache | None = None
        self.task_gradients: TaskGradients | None = None
        self.cast = CastWeights(self.network)
        self.scale = checked_scale(self.scale)
        self.network.requires_grad_(False)
        self.source = self.source or type(self.network).__name__
        self.taps = Taps(self.network, ())
        set_mode(self.network, self.mode)

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self  # a copy of what it teaches needs no teacher of its own

    def tap(
        self,
        paths: Iterable[str],
        image: Tensor,
        differentiated: Mapping[str, list[str]] | None = None
    ) -> dict[str, torch.Size]:
        """Has the maps at ``paths`` read from now on; their shapes.

        Args:
            paths: Layer paths.
            image: For a dry forward, as the network takes it.
            differentiated: Paths of maps, by the path of the logits: where
                the gradient of the cross entropy is asked for.

        Raises:
            UserError: A path names no map.
        """
        self.taps = Taps(self.network.to(image.device), paths)
        shapes = self.taps.shapes(image)
        set_mode(self.network, self.mode)
        if differentiated:
            self.task_gradients = TaskGradients(differentiated,
                                                self.ignore_index,
                                                self.align_corners)
            self.taps.leaves = {p for v in differentiated.values() for p in v}
        return shapes

    def __call__(self,
                 images: Tensor,
                 labels: Tensor | None = None,
                 samples: Any = None) -> Step:
        """One pass.

        Args:
            images: ``(N, C, H, W)``, as the student sees them.
            labels: ``(N, H, W)``.
            samples: What is known of each image; a cache looks there.
        """
        if self.cache is None:
            images = self.seen(images, samples)
        mask = None if labels is None else labels.ne(self.ignore_index)
        step = Step(labels, mask, samples, side_stream=self.side_stream)
        stream: AbstractContextManager = nullcontext()
        if self.side_stream is not None:
            stream = self.side_stream.behind([images] if labels is
                                             None else [images, labels])
        with stream:
            if self.cache is not None:
                step._maps = self.cache.maps(samples)
            else:
                step._maps, step._gradients = self._run(images, labels)
        return step

    def seen(self, images: Tensor, samples: Any = None) -> Tensor:
        """The images of a batch as the teacher sees them, normalized for the
        student.

        Raises:
            UserError: It has a finer view, and the batch does not bring it.
        """
        if self.scale == 1:
            return images
        if self.finer is None:
            raise UserError(f'a Teacher with scale={self.scale} needs finer=, '
                            'from a batch to its images of that scale')
        return self.finer(images, samples)

    def maps(self, images: Tensor) -> Maps:
        """The tapped maps alone, of images as it sees them; no cache, no
        stream."""
        return self._run(images, None, gradients=False)[0]

    @torch.no_grad()
    def not_finite(self, images: Tensor) -> tuple[str, str] | None:
        """Where a map of these images becomes NaN or infinite, if one does.

        Without cache and stream. It waits for a GPU, often.

        Returns:
            What is wrong, with the first such layer, and what to do.
        """
        where = self._first_bad(images)
        if where is None:
            return None
        precision = self.precision
        self.precision = Precision('float32')
        try:
            always = self._first_bad(images)
        finally:
            self.precision = precision
        if always is None:
            return (f'the teacher overflows in {where}, in mixed precision '
                    'and not in float32',
                    "Set precision='float32' in TeacherHook, or 'bfloat16'")
        return (f'the teacher is not finite from {always} on, in float32 too',
                f'It is the teacher, not the student: see {self.source} '
                '(seg-kd doctor looks at its weights), or take another '
                'checkpoint=')

    def _first_bad(self, images: Tensor) -> str | None:
        """The first layer that is not finite where a tapped map is not."""
        # hooks of the taps come after those that look
        with self.taps.detached(), \
                torch.compiler.set_stance('force_eager'), \
                FirstBad().watching(teacher=self.network) as first:
            maps = self._run(images, None, gradients=False)[0]
        bad = [path for path, kept in maps.items() if not finite(kept)]
        if not bad:
            return None
        return (first.layer or f'teacher {bad[0]}').removeprefix('teacher ')

    def _run(self,
             images: Tensor,
             labels: Tensor | None,
             gradients: bool = True) -> tuple[Maps, dict]:
        differentiate = self.task_gradients if gradients else None
        if self.network.training:  # somebody called train() on it
            set_mode(self.network, self.mode)
        first = next(self.network.parameters(), images)
        if first.device != images.device:
            self.network.to(images.device)
        autocast: AbstractContextManager = nullcontext()
        if self.precision is not None:
            autocast = self.precision(images.device)
        # not inference_mode: losses save these maps
        with torch.set_grad_enabled(differentiate is not None), autocast, \
                self.cast(images.device):
            if self.renormalize is not None:
                images = self.renormalize(images)
            if differentiate is None:
                return self._coarse(self.taps.run(images)), {}
            # One of several maps may be behind another: no graph can start
            # there.
            if any(parse(path)[1] is not None for path in self.taps.leaves):
                images = images.detach().requires_grad_()
            maps = self.taps.run(images)
            found = differentiate(maps, labels)
        maps = {path: kept.detach() for path, kept in maps.items()}
        return self._coarse(maps), self._coarse(found)

    def _coarse(self, maps: dict[Key, Tensor]) -> dict[Key, Tensor]:
        """On the grid of scale 1; at an odd border the mean of what is there.
        """
        if self.scale == 1:
            return maps
        return {
            key: F.avg_pool2d(kept, self.scale, ceil_mode=True)
            for key, kept in maps.items()
        }


def checked_scale(scale: float) -> int:
    """A whole number, from 1 on.

    Raises:
        UserError: It is none.
    """
    if isinstance(
            scale,
            bool) or not isinstance(scale,
                                    (int, float)) or scale < 1 or scale % 1:
        raise UserError('the scale of a teacher is a whole number, such as '
                        "2., or 1. for the student's own images, not "
                        f'{scale!r}')
    return int(scale)


def set_mode(network: nn.Module, mode: str) -> None:
    """``'eval'`` or ``'bn_train'``, for all of a network.

    Raises:
        UserError: It is neither.
    """
    if mode not in MODES:
        raise UserError(f"teacher_mode is 'eval' or 'bn_train', not {mode!r}")
    network.eval()
    if mode == 'bn_train':
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
                module.momentum = 0.  # the running statistics stay

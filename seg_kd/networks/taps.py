"""Reads feature maps out of any network, by the path of the layer.

``'backbone[3]'`` is the fourth map that ``model.backbone`` returns;
``'decode_head.conv_seg'`` is what that layer returns, and
``'decode_head.bottleneck.activate:input'`` what that layer receives: the map
before the ReLU.
"""
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seg_kd.errors import UserError

INPUT = ':input'


class _Stop(Exception):
    """The last map that was asked for is there."""


class _DidNotRun(UserError):
    """Layers were not called in a forward."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(f'layer {paths[0]!r} did not run in the forward of '
                         'the network; tap one that does')
        self.paths = paths


def parse(path: str) -> tuple[str, int | None]:
    """``'backbone[3]' -> ('backbone', 3)``, ``'neck' -> ('neck', None)``.

    The same with ``':input'`` behind it.
    """
    match = re.fullmatch(r'([\w.]+?)(?:\[(-?\d+)\])?',
                         path.removesuffix(INPUT))
    if match is None:
        raise UserError(f'layer path {path!r} is not of the form '
                        "'module.path' or 'module.path[index]', each with or "
                        "without ':input'")
    module, index = match.groups()
    return module, None if index is None else int(index)


def resolve(model: nn.Module, path: str) -> nn.Module:
    """The module that ``path`` names.

    Raises:
        UserError: There is none; the nearest real names are shown.
    """
    name, _ = parse(path)
    modules = dict(model.named_modules())
    if name not in modules or not name:
        near = difflib.get_close_matches(name, modules, n=4, cutoff=0.4)
        near = near or [child for child, _ in model.named_children()]
        raise UserError(f'{type(model).__name__} has no layer {name!r}; '
                        f'the nearest are: {", ".join(near)}')
    return modules[name]


def select(output: Any, path: str) -> Tensor:
    """The one map of a layer's output, or input, that ``path`` names."""
    name, index = parse(path)
    verb, tail = 'returns', ''
    if path.endswith(INPUT):
        verb, tail = 'receives', INPUT
    if isinstance(output, (tuple, list)):
        if index is None and len(output) == 1:
            index = 0
        if not output:
            raise UserError(f'layer {name!r} {verb} no map at all')
        if index is None or not -len(output) <= index < len(output):
            raise UserError(f'layer {name!r} {verb} {len(output)} maps: '
                            f'{path!r} must be one of {name}[0]{tail} to '
                            f'{name}[{len(output) - 1}]{tail}')
        output = output[index]
    elif index not in (None, 0, -1):
        raise UserError(f'layer {name!r} returns a single map: write '
                        f'{name!r}, not {path!r}')
    if not isinstance(output, Tensor) or output.dim() != 4:
        kind = (f'a tensor of shape {tuple(output.shape)}' if isinstance(
            output, Tensor) else f'a {type(output).__name__}')
        raise UserError(f'layer {path!r} {verb} {kind}, not a feature map '
                        '(N, C, H, W); tap another layer')
    return output


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module is as it was before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Taps:
    """Keeps the maps of the named layers whenever ``model`` runs.

    Args:
        model: Any module.
        paths: Layer paths, see the module's docstring.

    Raises:
        UserError: A path names no layer of ``model``.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str]) -> None:
        self.model = model
        self.modules = {
            path: resolve(model, path)
            for path in dict.fromkeys(paths)
        }
        self.leaves: set[str] = set()  # to be differentiated at
        self._direct: set[str] = set()  # whose forward is called by itself
        self._events = 0  # how many layers have been read in this forward
        self._stop_after: int | None = None
        self._maps: dict[str, tuple[Tensor, int]] = {}
        self._handles: list[Any] = []

    def attach(self) -> 'Taps':
        for path in self.modules:
            # a layer may have been replaced since, as by SyncBN
            module = self.modules[path] = resolve(self.model, path)
            if path.endswith(INPUT):
                handle = module.register_forward_pre_hook(
                    self._input_reader(path))
            elif path in self._direct:
                handle = Replaced(module, self._direct_reader(module, path))
            else:
                handle = module.register_forward_hook(self._reader(path))
            self._handles.append(handle)
        return self

    def detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._maps.clear()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attached inside; afterwards as it was before."""
        if self._handles:
            yield
            return
        self.attach()
        try:
            yield
        finally:
            self.detach()

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Detached inside; afterwards as it was before."""
        attached = bool(self._handles)
        self.detach()
        try:
            yield
        finally:
            if attached:
                self.attach()

    def _reader(self, path: str):

        def read(module, args, output):
            self._keep(path, select(output, path))

        return read

    def _direct_reader(self, module: nn.Module, path: str):
        """As :meth:`_reader`, where only the ``forward`` is called."""
        read = self._reader(path)

        def forward(plain: Callable, *args: Any, **kwargs: Any) -> Any:
            output = plain(*args, **kwargs)
            read(module, args, output)
            return output

        return forward

    def _input_reader(self, path: str):
        """Keeps what the layer receives; the layer gets a copy of it.

        So an in-place ReLU does not rewrite the kept map, and the gradient of
        what comes after passes through it.
        """

        def read(module, args):
            kept = select(args, path)
            self._keep(path, kept)
            return tuple(x.clone() if x is kept else x for x in args)

        return read

    def _keep(self, path: str, kept: Tensor) -> None:
        if path in self.leaves and not kept.requires_grad:
            kept.requires_grad_()  # nothing before it needs a gradient
        self._maps[path] = kept, kept._version
        self._events += 1
        if self._events == self._stop_after:
            raise _Stop

    def keeps(self, tensor: Tensor) -> bool:
        """Whether it is a map that was read in this forward."""
        return any(kept is tensor for kept, _ in self._maps.values())

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The maps of one forward of the model.

        Once :meth:`shapes` is known it goes no further than to the last one.
        """
        with self.attached():
            self.until_last(self.model, *args, **kwargs)
            return self.take()

    def until_last(self, forward: Callable, *args: Any, **kwargs: Any) -> None:
        """Calls a forward that goes no further than to the last map.

        Taps are attached, and :meth:`shapes` is known. What it would return
        is nobody's.
        """
        self._events = 0
        try:
            forward(*args, **kwargs)
        except _Stop:
            pass

    def take(self) -> dict[str, Tensor]:
        """The maps of the last forward; they are forgotten here.

        Raises:
            UserError: A later layer has overwritten a map, or a layer did
                not run.
        """
        maps, self._maps = self._maps, {}
        missing = [path for path in self.modules if path not in maps]
        if missing:
            raise _DidNotRun(missing)
        for path, (kept, version) in maps.items():
            if kept._version != version:
                raise UserError(
                    f'the map of {path!r} is overwritten in place by the '
                    'layer after it (an in-place ReLU?); tap that layer, '
                    f"or what it receives, with '{INPUT}' behind its path")
        return {path: kept for path, (kept, _) in maps.items()}

    @torch.no_grad()
    def shapes(self, inputs: Tensor) -> dict[str, torch.Size]:
        """Shape of every map, by a dry forward in eval mode.

        From then on :meth:`run` stops at the layer that was the last here.
        """
        self._stop_after, self._direct = None, set()
        with in_eval_mode(self.model):
            try:
                maps = self.run(inputs)
            except _DidNotRun as error:  # as the heads of MMSegmentation
                self._direct = {
                    p
                    for p in error.paths if not p.endswith(INPUT)
                }
                maps = self.run(inputs)
        self._stop_after = self._events
        return {path: kept.shape for path, kept in maps.items()}

    @torch.enable_grad()
    def sources(self, inputs: Tensor) -> set[nn.Parameter]:
        """The trainable parameters that some map depends on."""
        found = [p for p in self.model.parameters() if p.requires_grad]
        with in_eval_mode(self.model):
            total = sum(kept.sum() for kept in self.run(inputs).values())
        gradients = torch.autograd.grad(total, found, allow_unused=True)
        return {p for p, g in zip(found, gradients) if g is not None}


class Replaced:
    """Another ``forward`` of a module, until it is removed.

    Args:
        module: Whose.
        forward: The other one; before all else it is given the module's own.
    """

    def __init__(self, module: nn.Module, forward: Callable) -> None:
        self.module, self.before = module, vars(module).get('forward')
        module.forward = partial(  # type: ignore[method-assign]
            forward, module.forward)

    def remove(self) -> None:
        del self.module.forward
        if self.before is not None:
            self.module.forward = self.before

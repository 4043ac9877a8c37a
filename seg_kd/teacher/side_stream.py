"""Work of a GPU beside what it does for somebody else."""
from contextlib import contextmanager
from typing import Iterable, Iterator

import torch
from torch import Tensor


class SideStream:
    """A stream of its own for one part of each iteration::

        with side.beside(inputs):      # behind all that was enqueued before
            maps = network(inputs)     # enqueued; Python does not wait
        ...                            # enqueued on the current stream
        side.join(maps)                # the current stream waits for the maps

    Without a GPU, or if not ``wanted``, nothing of it exists.
    """

    def __init__(self, wanted: bool) -> None:
        exists = wanted and torch.cuda.is_available()
        self.stream = torch.cuda.Stream() if exists else None
        self._ahead = False  # of what the current stream has waited for

    @contextmanager
    def beside(self, inputs: Tensor) -> Iterator[None]:
        """Enqueues on the stream what is enqueued inside."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        inputs.record_stream(self.stream)  # not to be reused before it is read
        with torch.cuda.stream(self.stream):
            yield
        self._ahead = True

    def join(self, outputs: Iterable[Tensor]) -> None:
        """Lets the current stream use what was made beside it."""
        if not self._ahead:
            return
        current = torch.cuda.current_stream()
        current.wait_stream(self.stream)
        for tensor in outputs:
            tensor.record_stream(current)
        self._ahead = False

"""Work on a GPU at the same time as other work."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class SideStream:
    """A CUDA stream of its own for one part of each iteration::

        with side.behind(inputs):      # after all that was enqueued before
            maps = network(inputs)     # enqueued; Python does not wait
        ...                            # enqueued on the current stream
        side.join(maps)                # the current stream waits for the maps
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self._ahead = False  # of what the current stream has waited for

    @contextmanager
    def behind(self, inputs: Tensor) -> Iterator[None]:
        """Enqueues on the stream what is enqueued inside."""
        self.stream.wait_stream(torch.cuda.current_stream())
        inputs.record_stream(self.stream)  # not to be reused before it is read
        with torch.cuda.stream(self.stream):
            yield
        self._ahead = True

    def join(self, outputs: Iterable[Tensor]) -> None:
        """Lets the current stream use what was made on this one."""
        if not self._ahead:
            return
        current = torch.cuda.current_stream()
        current.wait_stream(self.stream)
        for tensor in outputs:
            tensor.record_stream(current)
        self._ahead = False

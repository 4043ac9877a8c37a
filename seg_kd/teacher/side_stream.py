"""Work on a GPU at the same time as other work."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class SideStream:
    """A CUDA stream of its own for one part of each iteration::

        with side.behind(inputs):      # after all that was enqueued before
            maps = network(*inputs)    # enqueued; Python does not wait
        ...                            # enqueued on the current stream
        side.join(maps)                # the current stream waits for the maps

    Args:
        alone: In so many first iterations the current stream waits at once:
            cuDNN times its algorithms then, and nothing may run beside them.
    """

    def __init__(self, alone: int = 3) -> None:
        self.stream = torch.cuda.Stream()
        self.alone = alone
        self._ahead = False  # of what the current stream has waited for

    @contextmanager
    def behind(self, inputs: Iterable[Tensor]) -> Iterator[None]:
        """Enqueues on the stream what is enqueued inside."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        for tensor in inputs:  # not to be reused before it is read
            tensor.record_stream(self.stream)
        with torch.cuda.stream(self.stream):
            yield
        self._ahead = True
        if self.alone > 0:
            self.alone -= 1
            current.wait_stream(self.stream)

    def join(self, outputs: Iterable[Tensor]) -> None:
        """Lets the current stream use what was made on this one."""
        if not self._ahead:
            return
        current = torch.cuda.current_stream()
        current.wait_stream(self.stream)
        for tensor in outputs:
            tensor.record_stream(current)
        self._ahead = False

"""MMEngine's log: who else speaks in it, and how long it is kept."""
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer


class ToMMLogger(logging.Handler):
    """Hands records on to MMEngine's current logger."""

    def emit(self, record: logging.LogRecord) -> None:
        MMLogger.get_current_instance().handle(record)


def connect() -> None:
    """Sends there what the parts that know no MMEngine have to say."""
    logger = logging.getLogger('seg_kd')
    if not any(isinstance(h, ToMMLogger) for h in logger.handlers):
        logger.addHandler(ToMMLogger())
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def let_go() -> Iterator[None]:
    """What MMEngine keeps of a run by its name goes when the block ends.

    Logger, log file, histories and visualizer: a process that does one
    training after the other would hold all of them.
    """
    kinds = MMLogger, MessageHub, Visualizer
    before = [set(kind._instance_dict) for kind in kinds]
    try:
        yield
    finally:
        for kind, known in zip(kinds, before):
            for name in kind._instance_dict.keys() - known:
                one = kind._instance_dict.pop(name)
                type(one)._instance_dict.pop(name, None)
                for handler in getattr(one, 'handlers', ()):
                    handler.close()

"""What the parts that know no MMEngine have to say, in MMEngine's log."""
import logging

from mmengine.logging import MMLogger


class ToMMLogger(logging.Handler):
    """Hands records on to MMEngine's current logger."""

    def emit(self, record: logging.LogRecord) -> None:
        MMLogger.get_current_instance().handle(record)


def connect() -> None:
    """Sends there what is logged under ``seg_kd``."""
    logger = logging.getLogger('seg_kd')
    if not any(isinstance(h, ToMMLogger) for h in logger.handlers):
        logger.addHandler(ToMMLogger())
        logger.setLevel(logging.INFO)
        logger.propagate = False

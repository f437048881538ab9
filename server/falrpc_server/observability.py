"""Logs: JSON lines on standard output, one for each event."""

import logging
import sys
from typing import TextIO

import structlog

__all__ = ["make_logger"]


def make_logger(level: str, stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """Returns the service's logger.

    Args:
        level: Least level written: debug, info, warning or error.
        stream: Where to; standard output by default.
    """
    minimum = logging.getLevelNamesMapping()[level.upper()]
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stdout),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        cache_logger_on_first_use=True,
    )
    return logger

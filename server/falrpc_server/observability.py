"""Logs: JSON lines on standard output, one for each event.

A line and its end are written in one go, since workers share the output.
"""

import logging
import sys
from typing import TextIO

import structlog

__all__ = ["make_logger"]

GRPC_LOGGER = "grpc._cython.cygrpc"


def make_logger(level: str, stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """Returns the service's logger.

    Args:
        level: Least level written: debug, info, warning or error.
        stream: Where to; standard output by default.
    """
    logging.getLogger(GRPC_LOGGER).addFilter(_without_metadata)  # a filter is there once
    minimum = logging.getLevelNamesMapping()[level.upper()]
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stdout),
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


def _without_metadata(record: logging.LogRecord) -> bool:
    """Takes out the value where grpc tells of metadata that is no text: it may be a credential."""
    if str(record.msg).startswith("Invalid encoding on"):
        record.msg, record.args = "metadata came whose encoding is invalid", None
    return True

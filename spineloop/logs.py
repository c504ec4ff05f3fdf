"""Logs: structured, on stderr, one JSON object a line, or coloured for a person."""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog


class Unbroken:
    """A stream whose failures nobody hears of: with a full disk under it a line is lost, and not who wanted to tell it.

    Parameters
    ----------
    stream : TextIO
        Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write if it can be."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Pass on what is written, if it can be."""
        with suppress(OSError):
            self._stream.flush()


def configure(log_format: Literal["json", "console"], level: str, **bound: str) -> None:
    """Set logging up for this process; `bound` stands in every line, such as the role."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    for_people: structlog.types.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr) if log_format == "json" else for_people,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Unbroken(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    # Client libraries speak through the standard library; they too go to stderr, and only when it matters.
    logging.basicConfig(level=max(threshold, logging.WARNING), format="%(name)s: %(message)s", stream=sys.stderr)

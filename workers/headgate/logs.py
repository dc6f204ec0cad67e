"""A worker's log: one JSON object a line on standard error, the handler's own lines included.

A line about an event says which: id, attempt, partition, lane and, where there is one, traceparent. What a handler logs
(through structlog or the standard library) while it handles an event is about that event.
"""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from headgate.event import Event

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

handled_event: ContextVar[Event | None] = ContextVar("headgate_handled_event", default=None)
"""The event that this task, or a thread working for it, handles now."""


def about(event: Event) -> dict[str, Any]:
    """What a line about an event says of it."""
    said: dict[str, Any] = {
        "event_id": event.id,
        "attempt": event.attempt,
        "partition": event.partition,
        "lane": event.lane.value,
    }
    if event.traceparent is not None:
        said["traceparent"] = event.traceparent
    return said


def configure_logging(**bound: str) -> None:
    """Sets up both loggers; every line has what is `bound`.

    HEADGATE_LOG_LEVEL (debug, info, warning, error) is the least level that is written.
    """
    wanted = os.environ.get("HEADGATE_LOG_LEVEL", "").lower() or "info"
    level = LEVELS.get(wanted, logging.INFO)
    structlog.contextvars.bind_contextvars(**bound)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_handled_event,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    if wanted not in LEVELS:
        known = ", ".join(LEVELS)
        structlog.get_logger("headgate.worker").warning("log.unknown_level", wanted=wanted, known=known)


def _add_handled_event(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    event = handled_event.get()
    if event is not None and "event_id" not in line:
        line.update(about(event))
    return line

"""Handlers for tests of traces."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace

from headgate import NewEvent, PermanentError, emit
from headgate.tracing import current_traceparent

if TYPE_CHECKING:
    from headgate import Event


async def on_loop(event: Event) -> Any:
    if event.data["do"] == "hang":
        await asyncio.Event().wait()
    return _either_way(event)


def plain(event: Event) -> Any:
    return _either_way(event)


async def batch(events: list[Event]) -> None:
    for event in events:
        structlog.get_logger().info("seen", of=event.id)


def _either_way(event: Event) -> Any:
    do = event.data["do"]
    if do == "fail":
        raise PermanentError("never")
    if do == "emit":
        return emit(NewEvent(id=f"{event.id}-child", data={"do": "log"}))
    if do == "log":
        structlog.get_logger().info("by structlog", under=current_traceparent())
        logging.getLogger("theirs").warning("by %s", "logging")
        with trace.get_tracer("theirs").start_as_current_span("inner"):
            pass
    return None

"""Spans of OpenTelemetry around a handler, in workers that are told where to send them and in no others.

Names and attributes are those of the semantic conventions for messaging
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/). An event's span is a child of the span it was
published in; a batch's span has a link to each event's.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import structlog

from headgate.handlers.wrapper import Wrapper
from headgate.tracing import format_traceparent, handled_under

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext

    from headgate.contract import BranchContract
    from headgate.event import Event
    from headgate.handlers.base import Handler

log = structlog.get_logger("headgate.worker")
_ASKED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
_FLUSH_MS = 5000


class TracedHandler(Wrapper):
    """A handler whose every call runs inside a span `process <branch>`; else it is the handler it wraps."""

    def __init__(self, handler: Handler, provider: TracerProvider, contract: BranchContract) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        super().__init__(handler)
        self._provider = provider
        self._api = trace
        self._extract = TraceContextTextMapPropagator().extract
        self._tracer = provider.get_tracer("headgate")
        self._name = f"process {contract.branch}"
        self._common: dict[str, Any] = {
            "messaging.system": "headgate",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": f"{contract.namespace}/{contract.pipeline}",
            "messaging.consumer.group.name": contract.branch,
        }

    async def __call__(self, slot: int, event: Event) -> Any:
        """Handles an event in a span that is a child of the one it was published in."""
        carrier = {"traceparent": event.traceparent} if event.traceparent else {}
        with self._tracer.start_as_current_span(
            self._name,
            context=self._extract(carrier),
            kind=self._api.SpanKind.CONSUMER,
            attributes={**self._common, **_attributes(event)},
        ) as span:
            handled_under.set(format_traceparent(span.get_span_context()))
            return await self._ended(span, self._wrapped(slot, event))

    async def handle_batch(self, slot: int, events: Sequence[Event]) -> Any:
        """Handles a batch in one span, linked to each event's."""
        count = {"messaging.batch.message_count": len(events)}
        with self._tracer.start_as_current_span(
            self._name,
            context=self._extract({}),
            kind=self._api.SpanKind.CONSUMER,
            attributes={**self._common, **count},
            links=[self._api.Link(self._context_of(event), _attributes(event)) for event in events],
        ) as span:
            handled_under.set(format_traceparent(span.get_span_context()))
            return await self._ended(span, self._wrapped.handle_batch(slot, events))

    def close(self) -> None:
        """Ends the handler's threads and processes, and sends the last spans."""
        super().close()
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

    async def _ended(self, span: Span, handling: Awaitable[Any]) -> Any:
        try:
            return await handling
        except asyncio.CancelledError:
            # OpenTelemetry takes a cancelled span for a good one.
            span.set_status(self._api.StatusCode.ERROR, "cancelled: out of time")
            raise

    def _context_of(self, event: Event) -> SpanContext:
        carrier = {"traceparent": event.traceparent} if event.traceparent else {}
        return self._api.get_current_span(self._extract(carrier)).get_span_context()


def traced(handler: Handler, contract: BranchContract, worker: str) -> Handler:
    """The handler with spans around it when the environment says where spans go, otherwise the handler itself.

    OTEL_EXPORTER_OTLP_ENDPOINT (or _TRACES_ENDPOINT) or OTEL_TRACES_EXPORTER (otlp, console, none) ask for spans; the
    other variables of the OpenTelemetry SDK hold too. A provider that the handler's module has set is used as it is.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not any(os.environ.get(name) for name in _ASKED_BY) or exporter == "none" or disabled:
        return handler
    try:
        provider = _provider(exporter, worker)
    except ModuleNotFoundError as error:
        log.warning("tracing.not_installed", missing=error.name, remedy="pip install 'headgate[otel]'")
        return handler
    if provider is None:
        log.warning("tracing.unknown_exporter", OTEL_TRACES_EXPORTER=exporter, known="otlp, console, none")
        return handler
    return TracedHandler(handler, provider, contract)


def _provider(exporter: str, worker: str) -> TracerProvider | None:
    from opentelemetry import trace  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )

    there = trace.get_tracer_provider()
    if isinstance(there, TracerProvider):
        return there
    way_out: SpanExporter
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        way_out = OTLPSpanExporter()
    elif exporter == "console":
        way_out = ConsoleSpanExporter()
    else:
        return None
    attributes = {"service.instance.id": worker}
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named and not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = "headgate-worker"
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(way_out))
    trace.set_tracer_provider(provider)  # so that the handler's own spans go the same way
    return provider


def _attributes(event: Event) -> dict[str, Any]:
    return {
        "messaging.message.id": event.id,
        "messaging.message.body.size": len(event.body),
        "messaging.destination.partition.id": str(event.partition),
        "headgate.attempt": event.attempt,
        "headgate.lane": event.lane.value,
    }

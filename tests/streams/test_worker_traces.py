"""Traces through a worker: from who publishes, into the handler's span, on to what it emits, kept by dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from headgate.contract import BatchSettings, BranchContract
from headgate.event import TRACE, NewEvent
from headgate.handlers import load_handler
from headgate.handlers.traced import TracedHandler, traced
from headgate.streams import Server
from headgate.tracing import format_traceparent
from headgate.worker.worker import Worker
from streams.desk import QUICK, Desk, desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HANDLER = "streams.trace_handlers:on_loop"


@pytest.fixture
async def canal(valkey_url: str) -> AsyncIterator[Desk]:
    server = Server.connect(valkey_url)
    async with desk(server) as made:
        yield made
    await server.aclose()


class Traces:
    """A provider of our own, so that tests share nothing, and the spans that ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@contextlib.asynccontextmanager
async def working(canal: Desk, contract: BranchContract, traces: Traces) -> AsyncIterator[None]:
    """A worker in this process, whose handler is traced."""
    handler = TracedHandler(load_handler(contract), traces.provider, contract)
    worker = Worker(canal.server, contract, handler, "w1")
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.drain()
        await running
        handler.close()


async def test_a_handlers_span_is_a_child_of_the_publishers_and_says_what_it_handles(canal: Desk) -> None:
    traces = Traces()
    async with working(canal, canal.contract(function=HANDLER, concurrency=2), traces):
        with traces.provider.get_tracer("shop").start_as_current_span("order") as order:
            await canal.publish(NewEvent(id="inherits", data={"do": "nothing"}))
            await canal.publish(NewEvent(id="own", data={"do": "nothing"}, traceparent=FOREIGN))
        await canal.publish(NewEvent(id="none", data={"do": "nothing"}))
        await canal.xadd({"data": '{"do": "nothing"}', "id": "odd", "traceparent": b"\xff\xfe"})
        await canal.settled(events=4)
    spans = {
        span.attributes["messaging.message.id"]: span for span in traces.spans() if span.name == "process a"
    }
    assert format_traceparent(spans["inherits"].parent) == format_traceparent(order.get_span_context())
    assert format_traceparent(spans["own"].parent) == FOREIGN
    assert spans["none"].parent is None
    assert spans["odd"].parent is None
    assert spans["own"].kind is SpanKind.CONSUMER
    assert dict(spans["own"].attributes) == {
        "messaging.system": "headgate",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "test/canal",
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "a",
        "messaging.message.id": "own",
        "messaging.message.body.size": len(b'{"do":"nothing"}'),
        "headgate.attempt": 1,
        "headgate.lane": "normal",
    }


@pytest.mark.parametrize("function", ["on_loop", "plain"])
async def test_what_a_handler_emits_belongs_to_its_span(canal: Desk, function: str) -> None:
    traces = Traces()
    contract = canal.contract(function=f"streams.trace_handlers:{function}")
    async with working(canal, contract, traces):
        await canal.publish(NewEvent(id="mother", data={"do": "emit"}, traceparent=FOREIGN))
        await canal.settled(events=2)
    by_id = {span.attributes["messaging.message.id"]: span for span in traces.spans()}
    assert format_traceparent(by_id["mother"].parent) == FOREIGN
    assert by_id["mother-child"].parent.span_id == by_id["mother"].get_span_context().span_id


async def test_without_tracing_what_a_handler_emits_inherits_its_events_traceparent(
    canal: Desk, tmp_path: Path
) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        workers.start(canal.contract(function=HANDLER))
        await canal.publish(NewEvent(id="mother", data={"do": "emit"}, traceparent=FOREIGN))
        await canal.settled(events=2)
    stream = canal.keys.partition(0).lanes[1]
    entries = await canal.command(stream, "XRANGE", stream, "-", "+")
    found = {fields[b"id"]: fields.get(TRACE) for _, fields in entries}
    assert found[b"mother-child"] == FOREIGN.encode()


async def test_a_failure_is_the_spans_and_a_dead_letter_keeps_the_trace(canal: Desk) -> None:
    traces = Traces()
    async with working(canal, canal.contract(function=HANDLER, retry=QUICK), traces):
        await canal.publish(NewEvent(id="bad", data={"do": "fail"}, traceparent=FOREIGN))
        await canal.settled(events=1)
    (span,) = traces.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "never" in (span.status.description or "")
    dead = canal.keys.partition(0).dead("a")
    ((_, fields),) = await canal.command(dead, "XRANGE", dead, "-", "+")
    assert fields[TRACE] == FOREIGN.encode()


async def test_an_attempt_out_of_time_is_an_error_too(canal: Desk) -> None:
    traces = Traces()
    contract = canal.contract(function=HANDLER, retry=QUICK, timeout_seconds=0.2)
    async with working(canal, contract, traces):
        await canal.publish(NewEvent(id="slow", data={"do": "hang"}))
        await canal.settled(events=1)
    spans = traces.spans()
    assert [span.attributes["headgate.attempt"] for span in spans] == [1, 2, 3]
    assert {(span.status.status_code, span.status.description) for span in spans} == {
        (StatusCode.ERROR, "cancelled: out of time")
    }


async def test_a_batch_has_one_span_with_a_link_to_each_event(canal: Desk) -> None:
    traces = Traces()
    await canal.publish(*(NewEvent(id=f"e{n}", data=n, traceparent=FOREIGN) for n in range(3)))
    contract = canal.contract(
        function="streams.trace_handlers:batch", batch=BatchSettings(max_events=3, max_wait_seconds=5)
    )
    async with working(canal, contract, traces):
        await canal.settled(events=3)
    (span,) = traces.spans()
    assert span.attributes["messaging.batch.message_count"] == 3
    assert [format_traceparent(link.context) for link in span.links] == [FOREIGN] * 3
    assert [link.attributes["messaging.message.id"] for link in span.links] == ["e0", "e1", "e2"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_TRACES_EXPORTER": "carrier-pigeon"},
    ],
)
def test_a_worker_that_is_not_told_where_spans_go_has_the_handler_itself(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    contract = BranchContract(namespace="n", pipeline="p", branch="a", function=HANDLER)
    handler = load_handler(contract)
    assert traced(handler, contract, "w1") is handler


class Collector(http.server.ThreadingHTTPServer):
    """What takes OTLP over HTTP, and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.requests: list[ExportTraceServiceRequest] = []

    def spans(self) -> dict[str, Any]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


class _Receive(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{started.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield started
        started.shutdown()


@pytest.mark.parametrize("form", [{"function": HANDLER}, {"function": "streams.trace_handlers:plain"}])
async def test_a_worker_process_sends_its_spans_and_the_handlers_own(
    canal: Desk, tmp_path: Path, collector: Collector, form: dict[str, str]
) -> None:
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(**form))
        await canal.publish(NewEvent(id="e", data={"do": "log"}, traceparent=FOREIGN))
        await canal.settled(events=1)
        worker.terminate()
        assert worker.wait_ended() == 0, "what was not sent yet is, before it ends"
    spans = collector.spans()
    assert spans["process a"].trace_id.hex() == FOREIGN[3:35]
    assert spans["process a"].parent_span_id.hex() == FOREIGN[36:52]
    assert spans["inner"].parent_span_id == spans["process a"].span_id
    (resource,) = {str(request.resource_spans[0].resource) for request in collector.requests}
    assert "headgate-worker" in resource


async def test_a_collector_that_is_not_there_harms_nothing(
    canal: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with workers_in(tmp_path, canal.server.url) as workers:
        worker = workers.start(canal.contract(function=HANDLER))
        await canal.publish(*({"do": "nothing"} for _ in range(50)))
        assert (await canal.settled(events=50)).done == 50
        worker.terminate()
        assert worker.wait_ended(20) == 0

"""Pushing over HTTP: a handler against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from headgate.contract import BatchSettings, BranchContract, BreakerContract, HttpContract
from headgate.errors import RetryLaterError, TargetGoneError
from headgate.event import Event, InvalidEventError
from headgate.handlers import HandlerLoadError, load_handler
from headgate.handlers.answers import StatusError
from headgate.handlers.breaker import State
from headgate.handlers.http import HttpHandler, UnreachableError
from streams.targets import LOOPBACK, Target, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with serving() as made:
        yield made


def contract(
    url: str, *, batch: bool = False, concurrency: int = 4, timeout: float = 30, **http: Any
) -> BranchContract:
    return BranchContract(
        namespace="shop",
        pipeline="orders",
        branch="invoice",
        http=HttpContract(url=url, **({"allow_networks": LOOPBACK} | http)),
        concurrency=concurrency,
        timeout_seconds=timeout,
        batch=BatchSettings() if batch else None,
    )


@contextlib.asynccontextmanager
async def pushing(url: str, **settings: Any) -> AsyncIterator[HttpHandler]:
    handler = load_handler(contract(url, **settings))
    assert isinstance(handler, HttpHandler)
    await handler.start()
    try:
        yield handler
    finally:
        await handler.aclose()
        await asyncio.sleep(0)


def event(number: int = 0, body: bytes = b'{"n": 1}', **members: Any) -> Event:
    return Event(id=f"e{number}", body=body, **members)


async def test_an_event_is_posted_as_it_is_and_the_answers_json_is_its_result(target: Target) -> None:
    target.answers(200, {"invoice": 7})
    async with pushing(target.url) as handler:
        assert await handler(0, event(attempt=2, key="k")) == {"invoice": 7}
    ((request, body),) = target.requests
    assert (request.method, request.path, body) == ("POST", "/events", b'{"n": 1}')
    assert request.headers["ce-id"] == "e0"
    assert request.headers["headgate-attempt"] == "2"
    assert request.headers["idempotency-key"] == request.headers["webhook-id"] == "shop/orders/invoice/0/e0"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert "webhook-signature" not in request.headers


async def test_connections_are_used_again(target: Target) -> None:
    ports = set()
    target.answers(200, "x" * 60_000)
    async with pushing(target.url) as handler:
        for number in range(5):
            await handler(0, event(number))
            request, _ = target.requests[-1]
            assert request.transport is not None
            ports.add(request.transport.get_extra_info("peername"))
    assert len(ports) == 1


async def test_what_is_no_json_is_not_pushed(target: Target) -> None:
    async with pushing(target.url) as handler:
        with pytest.raises(InvalidEventError):
            await handler(0, event(body=b"{"))
    assert target.requests == []


async def test_a_result_longer_than_64_kb_is_none_and_the_event_is_settled(target: Target) -> None:
    target.answers(200, "x" * 65_536)
    async with pushing(target.url) as handler:
        assert await handler(0, event()) is None
        target.answers(200, "x" * 65_534)
        assert await handler(0, event()) == "x" * 65_534


async def test_no_redirect_is_followed(target: Target) -> None:
    target.answers(307, location="/elsewhere")
    async with pushing(target.url) as handler:
        with pytest.raises(StatusError, match="answered 307, and redirects are not followed"):
            await handler(0, event())
    assert [request.path for request, _ in target.requests] == ["/events"]


async def test_no_proxy_is_taken_from_the_environment(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with pushing(target.url) as handler:
        await handler(0, event())
    assert len(target.requests) == 1


async def test_an_error_tells_neither_credentials_nor_query(target: Target) -> None:
    target.answers(500, "broken")
    url = target.url.replace("://", "://user:hush@") + "?token=hush"
    async with pushing(url) as handler:
        with pytest.raises(StatusError) as raised:
            await handler(0, event())
    assert str(raised.value) == f'POST {target.url} answered 500: "broken"'
    (request, _) = target.requests[0]
    assert request.query_string == "token=hush"
    assert request.headers["authorization"].startswith("Basic ")


async def test_no_answer_and_a_broken_answer_are_told_without_the_query() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/?token=hush"
        async with pushing(url) as handler:
            with pytest.raises(UnreachableError, match="Errno 111") as raised:
                await handler(0, event())
        assert "hush" not in str(raised.value)

    async def rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/9 rubbish\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rubbish, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/?token=hush"
        async with pushing(url) as handler:
            with pytest.raises(UnreachableError) as raised:
                await handler(0, event())
        assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
)
async def test_an_address_that_is_not_public_is_not_connected_to_however_it_is_written(
    target: Target, host: str
) -> None:
    async with pushing(f"http://{host}:{target.port}/", allow_networks=()) as handler:
        # The client itself refuses a number that is no address as it is written.
        with pytest.raises(UnreachableError, match=r"handler\.http\.allowNetworks|canonical"):
            await handler(0, event())
    assert target.requests == []


async def test_of_a_names_addresses_only_the_allowed_are_connected_to(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    looked_up = 0

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        nonlocal looked_up
        looked_up += 1
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, target.port))
            for address in ("169.254.169.254", "10.0.0.1", "127.0.0.1")
        ]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    url = f"http://target.example:{target.port}/"
    async with pushing(url) as handler:
        await handler(0, event(1))
        await handler(0, event(2))
    assert looked_up == 1, "the address that was checked is the one that is used"
    assert len(target.requests) == 2
    async with pushing(url, allow_networks=()) as handler:
        with pytest.raises(UnreachableError, match=r"is loopback and may not be pushed to"):
            await handler(0, event())


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "example.com", "http://", "http://[", ""]
)
def test_what_is_no_url_to_push_to_never_starts(url: str) -> None:
    with pytest.raises(HandlerLoadError, match=r"handler\.http\.url"):
        load_handler(contract(url))


def test_settings_that_can_never_work_never_start(tmp_path: Path) -> None:
    with pytest.raises(HandlerLoadError, match=r"allowNetworks: .10\.0\.0\.1/8."):
        load_handler(contract("http://example.com", allow_networks=("10.0.0.1/8",)))
    with pytest.raises(HandlerLoadError, match="signing keys file"):
        load_handler(contract("http://example.com", signing_keys_file=str(tmp_path / "none")))


async def test_cancelling_closes_the_request(target: Target) -> None:
    target.answer = target.hang
    async with pushing(target.url) as handler:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler(0, event()), 0.2)
        await asyncio.wait_for(target.gone.wait(), 5)
        target.answers(200)
        await handler(0, event())


@pytest.mark.parametrize("status", [429, 503])
async def test_a_target_that_asks_for_a_pause_gets_it(target: Target, status: int) -> None:
    target.answers(status, retry_after="1")
    async with pushing(target.url) as handler:
        with pytest.raises(RetryLaterError) as raised:
            await handler(0, event())
        assert raised.value.seconds == 1
        assert 0.8 < handler.paused_until - time.monotonic() <= 1
        target.answers(200)
        began = time.monotonic()
        await handler(0, event())
        assert time.monotonic() - began > 0.8
        assert handler.paused_until <= time.monotonic()


async def test_a_target_that_is_gone_says_so(target: Target) -> None:
    target.answers(410)
    async with pushing(target.url) as handler:
        with pytest.raises(TargetGoneError):
            await handler(0, event())


BREAKER = BreakerContract(failures=2, open_seconds=0.4)


async def test_failures_open_the_breaker_one_probe_goes_and_its_success_closes_it(target: Target) -> None:
    target.answers(500)
    async with pushing(target.url, breaker=BREAKER) as handler:
        for _ in range(2):
            assert handler.paused_until <= time.monotonic()
            with pytest.raises(StatusError):
                await handler(0, event())
        assert handler.breaker is State.OPEN
        assert 0.2 < handler.paused_until - time.monotonic() <= 0.4
        held = asyncio.Event()

        async def hold(_: web.BaseRequest) -> web.Response:
            await held.wait()
            return web.Response()

        target.answer = hold
        rest = [asyncio.create_task(handler(0, event(number))) for number in range(4)]
        await asyncio.sleep(0.2)
        assert len(target.requests) == 2
        await asyncio.sleep(0.6)
        assert len(target.requests) == 3, "one probe"
        assert handler.breaker is State.HALF_OPEN
        assert handler.paused_until > time.monotonic() + 20, "no event is begun while the probe is out"
        held.set()
        await asyncio.gather(*rest)
        assert handler.breaker is State.CLOSED
        assert handler.paused_until <= time.monotonic()
    assert len(target.requests) == 6


async def test_refused_connections_and_time_outs_open_it_too_and_what_an_event_deserves_does_not(
    target: Target,
) -> None:
    async with pushing(target.url, breaker=BREAKER) as handler:
        for status in (404, 400, 422, 301, 410, 429):
            target.answers(status)
            with pytest.raises((StatusError, TargetGoneError)):
                await handler(0, event())
        assert handler.breaker is State.CLOSED
        target.answer = target.hang
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handler(0, event()), 0.05)
        assert handler.breaker is State.OPEN
    async with pushing("http://127.0.0.1:1/", breaker=BREAKER) as handler:
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await handler(0, event())
        assert handler.breaker is State.OPEN


async def test_a_probe_that_fails_leaves_it_open(target: Target) -> None:
    target.answers(502)
    async with pushing(target.url, breaker=BREAKER) as handler:
        for _ in range(3):
            with pytest.raises(StatusError):
                await handler(0, event())
        assert handler.breaker is State.OPEN
        assert handler.paused_until > time.monotonic()


async def test_a_batch_is_one_request_and_its_events_may_fail_one_by_one(target: Target) -> None:
    target.answers(200, [{"result": 1}, {"error": "no such order"}])
    async with pushing(target.url, batch=True) as handler:
        results = await handler.handle_batch(0, [event(1, attempt=3), event(2, b"{"), event(3)])
    (request, body), *more = target.requests
    assert more == []
    assert request.headers["content-type"] == "application/cloudevents-batch+json"
    assert request.headers["webhook-id"].startswith("shop/orders/invoice/batch-")
    assert request.headers["headgate-attempt"] == "3"
    assert [row["id"] for row in json.loads(body)] == ["e1", "e3"]
    assert results[0] == 1
    assert isinstance(results[1], InvalidEventError)
    assert str(results[2]) == "no such order"


async def test_a_batch_that_is_all_done_or_all_unreadable(target: Target) -> None:
    async with pushing(target.url, batch=True) as handler:
        assert await handler.handle_batch(0, [event(1), event(2)]) is None
        results = await handler.handle_batch(0, [event(1), event(2, b"{")])
        assert results[0] is None
        assert isinstance(results[1], InvalidEventError)
        pushed = len(target.requests)
        results = await handler.handle_batch(0, [event(2, b"{")])
        assert [type(each) for each in results] == [InvalidEventError]
        assert len(target.requests) == pushed


async def test_a_large_batch_is_pushed_whole(target: Target) -> None:
    events = [event(number, json.dumps("x" * 20_000).encode()) for number in range(60)]
    async with pushing(target.url, batch=True) as handler:
        assert await handler.handle_batch(0, events) is None
    ((_, body),) = target.requests
    assert len(json.loads(body)) == 60


async def test_a_target_in_the_same_pod_is_waited_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    handler = load_handler(contract(f"http://127.0.0.1:{port}/", allow_networks=(), await_listening=True))
    starting = asyncio.create_task(handler.start())
    await asyncio.sleep(0.3)
    assert not starting.done()
    try:
        async with serving(port=port) as made:
            await asyncio.wait_for(starting, 5)
            await handler(0, event())
            assert len(made.requests) == 1
    finally:
        await handler.aclose()

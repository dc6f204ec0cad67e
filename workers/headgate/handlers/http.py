"""Handlers in any language: each event is pushed to a URL, and the answer's status settles it.

One event goes in the binary mode of the CloudEvents HTTP binding, a batch in its batched mode, signed by Standard
Webhooks where the manifest names keys. No redirect is followed, no proxy is taken from the environment, and only
addresses that may be pushed to are connected to (addresses.py).
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog
from yarl import URL

from headgate.event import InvalidEventError
from headgate.handlers.addresses import LOOPBACK, AllowedNetworks
from headgate.handlers.answers import RESULT_BYTES, Answer
from headgate.handlers.base import Handler, HandlerLoadError
from headgate.handlers.breaker import Breaker, State
from headgate.handlers.cloudevents import BATCH, Binding
from headgate.handlers.webhooks import SigningKeys, SigningKeysError
from headgate.streams.closing import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import BranchContract
    from headgate.event import Event

log = structlog.get_logger("headgate.worker")
_CONNECT_SECONDS = 10.0
# Shorter than the 5 s after which the servers of Node and of uvicorn close: a push never meets a closing connection.
_KEPT_SECONDS = 4.0
_LOOK_SECONDS = 0.1  # between two looks whether a pause is over
_LISTENING_LOOK_SECONDS = 0.1
_LISTENING_LOG_SECONDS = 5.0
_BATCH_ANSWER_BYTES = 8 * 1024 * 1024
_STREAMED_BYTES = 1024 * 1024  # a longer body is written in pieces, so that the loop turns meanwhile


class UnreachableError(Exception):
    """A push got no answer: no address, no connection, or one that broke off; names the target and why."""


class HttpHandler(Handler):
    """Pushes events to the URL of a contract. Raises HandlerLoadError for settings that can never work.

    Besides its errors, an event fails with StatusError, UnreachableError, RetryLaterError or TargetGoneError.
    """

    def __init__(self, contract: BranchContract) -> None:
        settings = contract.http
        if settings is None:
            raise HandlerLoadError("the contract has no `http`: nowhere to push to")
        self._url = _checked(settings.url)
        self._target = f"POST {shown(settings.url)}"
        self._binding = Binding(contract)
        self._timeout = contract.timeout_seconds
        self._connections = contract.concurrency
        self._awaits = settings.await_listening
        self._breaker = Breaker(settings.breaker.failures, settings.breaker.open_seconds)
        self._asked_until = 0.0
        self._session: aiohttp.ClientSession | None = None
        try:
            self._networks = AllowedNetworks((*settings.allow_networks, *(LOOPBACK if self._awaits else ())))
            self._keys = SigningKeys(settings.signing_keys_file) if settings.signing_keys_file else None
        except (ValueError, SigningKeysError) as error:
            raise HandlerLoadError(str(error)) from error

    @property
    def breaker(self) -> State:
        """The state of the target's."""
        return self._breaker.state

    async def start(self) -> None:
        """Opens the client; a target in the same pod is waited for, because both containers start at once."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=_KEPT_SECONDS,
                use_dns_cache=False,
                socket_factory=self._networks.socket,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "headgate", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )
        if self._awaits:
            await self._listening()

    async def __call__(self, slot: int, event: Event) -> Any:  # noqa: ARG002 - a connection is no slot's own
        """The target's result for an event."""
        event.data  # noqa: B018 - raises for what is no JSON, which the content type would belie
        key = self._binding.idempotency_key(event)
        answer = await self._push(key, self._binding.binary(event), event.body, RESULT_BYTES)
        return answer.result()

    async def handle_batch(self, slot: int, events: Sequence[Event]) -> Any:  # noqa: ARG002 - as above
        """None when all events are done, else each one's result or error; what is no JSON fails and is not pushed."""
        unreadable = {place: error for place, event in enumerate(events) if (error := _unreadable(event))}
        pushed = [event for place, event in enumerate(events) if place not in unreadable]
        results = await self._push_batch(pushed) if pushed else None
        if not unreadable:
            return results
        rest = iter(results or [None] * len(pushed))
        return [unreadable.get(place) or next(rest) for place in range(len(events))]

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _push_batch(self, events: Sequence[Event]) -> list[Any] | None:
        headers = {
            "content-type": BATCH,
            "headgate-attempt": str(max(event.attempt for event in events)),
        }
        key, body = self._binding.batch_key(events), self._binding.batch(events)
        limit = min(RESULT_BYTES * len(events), _BATCH_ANSWER_BYTES)
        answer = await self._push(key, headers, body, limit)
        return answer.results(len(events))

    async def _push(self, key: str, headers: dict[str, str], body: bytes, limit: int) -> Answer:
        """One request; tells the breaker what it says of the target. Raises UnreachableError."""
        epoch = await self._admitted()
        try:
            # Signed when it is sent: receivers refuse what is older than minutes, and a pause may be an hour.
            headers |= self._signature(key, body)
            answer = await self._post(headers, body, limit)
        except BaseException:
            self._breaker.failed(epoch, time.monotonic())
            raise
        else:
            if answer.tells_of_the_target:
                self._breaker.failed(epoch, time.monotonic())
            else:
                self._breaker.succeeded(epoch)
            pause = answer.pause_seconds
            if pause is not None:
                self._asked_until = max(self._asked_until, time.monotonic() + pause)
        finally:
            self._pause()
        return answer

    async def _admitted(self) -> int:
        """Waits until the target may be called; gives the breaker's epoch.

        The worker begins no event during a pause. This is for those that it began just before one.
        """
        while True:
            now = time.monotonic()
            if now >= self._asked_until:
                before = self._breaker.state
                epoch = self._breaker.begin(now)
                if epoch is not None:
                    if self._breaker.state is not before:
                        self._pause()
                    return epoch
            await asyncio.sleep(_LOOK_SECONDS)

    def _pause(self) -> None:
        now = time.monotonic()
        self.paused_until = max(self._asked_until, self._breaker.paused_until(now, self._timeout))

    def _signature(self, key: str, body: bytes) -> dict[str, str]:
        now = int(time.time())
        headers = {"idempotency-key": key, "webhook-id": key, "webhook-timestamp": str(now)}
        if self._keys is not None:
            headers["webhook-signature"] = self._keys.sign(key, now, body)
        return headers

    async def _post(self, headers: dict[str, str], body: bytes, limit: int) -> Answer:
        if self._session is None:
            raise RuntimeError("the handler was not started")
        data = body if len(body) < _STREAMED_BYTES else io.BytesIO(body)
        try:
            async with self._session.post(
                self._url, data=data, headers=headers, allow_redirects=False
            ) as response:
                text = await _read(response, limit)
                return Answer(
                    self._target, response.status, response.headers, text[:limit], len(text) <= limit
                )
        except (aiohttp.ClientError, OSError) as error:
            # The client's own time-out, of connecting, is an OSError too.
            raise UnreachableError(f"{self._target}: {_why(error)}") from error

    async def _listening(self) -> None:
        host, port = self._url.host or "", self._url.port or 0
        said = began = time.monotonic()
        while True:
            try:
                # Not asyncio.wait_for: until Python 3.12 it may swallow the cancellation that a drain is.
                async with asyncio.timeout(_CONNECT_SECONDS):
                    _, writer = await asyncio.open_connection(host, port)
            except OSError as error:
                now = time.monotonic()
                if now - said >= _LISTENING_LOG_SECONDS:
                    said = now
                    log.info(
                        "target.awaited", target=self._target, seconds=round(now - began), error=str(error)
                    )
                await asyncio.sleep(_LISTENING_LOOK_SECONDS)
            else:
                writer.close()
                return


def _checked(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError as error:
        raise HandlerLoadError(f"handler.http.url: {shown(url)!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise HandlerLoadError(f"handler.http.url: {shown(url)!r} is no http:// or https:// URL")
    return parsed


def _why(error: Exception) -> str:
    """What went wrong, without the URL, whose query may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return said or type(error).__name__


def _unreadable(event: Event) -> InvalidEventError | None:
    try:
        event.data  # noqa: B018 - raises for what is no JSON
    except InvalidEventError as error:
        return error
    return None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its beginning: a little more than `limit`, which then closes the connection."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(pieces)

"""Closing a branch whose target said that it is gone for good, and opening it again.

A closed branch reads nothing (scripts/read.lua): its events wait in the streams, none is retried and none is lost. The
mark has no time-to-live: no time makes a gone target come back, but a person, or a manifest with another target.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import msgspec

if TYPE_CHECKING:
    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Why a branch takes nothing.

    `target` is the URL without credentials and query, `at` the time as RFC 3339. `fingerprint` tells the whole URL from
    others without storing what may be secret in it; a mark that was set by hand has none, and only a hand opens it.
    """

    reason: str
    target: str
    at: str
    fingerprint: str = ""


async def close_branch(server: Server, keys: PipelineKeys, branch: str, reason: str, target: str) -> bool:
    """Closes a branch on every partition; False when it was closed before, and that reason stays.

    `target` is what is gone: a URL, or a function's path. Raises ServerUnavailableError, with some partitions closed.
    """
    mark = msgspec.json.encode(
        Closed(
            reason=reason,
            target=shown(target),
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            fingerprint=_fingerprint(target),
        )
    )
    names = [partition.closed(branch) for partition in keys.all]
    replies = await asyncio.gather(*(server.execute(name, "SET", name, mark, "NX") for name in names))
    return any(replies)


async def open_branch(server: Server, keys: PipelineKeys, branch: str) -> bool:
    """Opens a branch on every partition, at its workers' next read; False when it was open."""
    names = [partition.closed(branch) for partition in keys.all]
    return any(await asyncio.gather(*(server.execute(name, "DEL", name) for name in names)))


async def read_closed(server: Server, keys: PipelineKeys, branch: str) -> Closed | None:
    """Why a branch is closed; None when it is open on every partition."""
    names = [partition.closed(branch) for partition in keys.all]
    for mark in await asyncio.gather(*(server.execute(name, "GET", name) for name in names)):
        if mark is not None:
            return _decode(mark)
    return None


async def reopen_if_moved(server: Server, keys: PipelineKeys, branch: str, target: str) -> bool:
    """Opens a branch that was closed for another target than the one it has now; True when it did."""
    closed = await read_closed(server, keys, branch)
    if closed is None or closed.fingerprint in ("", _fingerprint(target)):
        return False
    return await open_branch(server, keys, branch)


def shown(target: str) -> str:
    """A target as it may be shown: of a URL scheme, host, port and path, without credentials, query and fragment."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "(no URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _fingerprint(target: str) -> str:
    return hashlib.sha256(target.encode()).hexdigest()[:16]


def _decode(mark: bytes) -> Closed:
    try:
        return msgspec.json.decode(mark, type=Closed)
    except msgspec.MsgspecError:
        return Closed(reason=mark.decode(errors="replace"), target="", at="")

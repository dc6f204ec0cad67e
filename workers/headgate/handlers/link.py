"""Values between a worker and a child process, over a pair of sockets, each as its length and a pickle.

The worker's end never blocks its loop: not on a value that is longer than the socket takes at once, nor on a child that
reads late because it still imports its module, or not at all because it was stopped.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 20


class Link:
    """The worker's end; `theirs` is the child's, to be closed here once the child has it."""

    def __init__(self) -> None:
        self._socket, self.theirs = socket.socketpair()
        self._socket.setblocking(False)

    async def send(self, value: Any) -> None:
        """Sends a value; raises OSError when the other end is closed, and what pickling it raises."""
        body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._until(loop.add_writer, loop.remove_writer)

    async def receive(self) -> Any:
        """The next value; raises EOFError when the other end was closed before it, OSError when it broke."""
        (length,) = _LENGTH.unpack(await self._read(_LENGTH.size))
        return pickle.loads(await self._read(length))  # noqa: S301 - from our own child

    def close(self) -> None:
        """Closes this end; the child reads the end of the file."""
        self._socket.close()

    async def _read(self, length: int) -> bytearray:
        found = bytearray(length)
        rest = memoryview(found)
        while rest:
            try:
                count = self._socket.recv_into(rest, min(len(rest), _CHUNK))
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._until(loop.add_reader, loop.remove_reader)
                continue
            if not count:
                raise EOFError
            rest = rest[count:]
        return found

    async def _until(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        descriptor = self._socket.fileno()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        add(descriptor, _resolve, ready)
        try:
            await ready
        finally:
            # Before the descriptor is closed: another thread may open one of the same number at once.
            remove(descriptor)


def send(end: socket.socket, value: Any) -> None:
    """Sends a value from the child, waiting until it is taken; raises what pickling it does before any of it went."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    end.sendall(_LENGTH.pack(len(body)) + body)


def receive(end: socket.socket) -> Any:
    """The next value in the child; raises EOFError when the worker is gone."""
    (length,) = _LENGTH.unpack(_read(end, _LENGTH.size))
    return pickle.loads(_read(end, length))  # noqa: S301 - from the worker that started us


def _read(end: socket.socket, length: int) -> bytearray:
    found = bytearray(length)
    rest = memoryview(found)
    while rest:
        count = end.recv_into(rest, min(len(rest), _CHUNK))
        if not count:
            raise EOFError
        rest = rest[count:]
    return found


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

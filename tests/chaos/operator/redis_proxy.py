"""Between an operator and a Redis server: names every write for Fate, one command after another."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import hiredis

from chaos.operator.fate import Fate, StruckError
from headgate.streams.script import ALL

if TYPE_CHECKING:
    from collections.abc import Callable

_INCOMPLETE = object()
_READS = {
    *(
        "GET",
        "HGET",
        "HMGET",
        "HGETALL",
        "EXISTS",
        "TYPE",
        "SCAN",
        "PING",
        "XREAD",
        "XLEN",
        "XINFO",
        "XRANGE",
    ),
    *(
        "HKEYS",
        "LLEN",
        "LRANGE",
        "ZRANGE",
        "ZCARD",
        "PTTL",
        "TTL",
        "AUTH",
        "HELLO",
        "SELECT",
        "INFO",
        "XPENDING",
    ),
    *("XREVRANGE", "ZSCORE", "CLIENT", "ACL", "COMMAND", "HLEN", "MEMORY", "CONFIG"),
}
_SCRIPTS = {script.sha: script for script in ALL}
_TAG = re.compile(rb"\{[^}]*:(\d+)\}:?(.*)", re.DOTALL)


class RedisProxy:
    """One a server and lane. `letter` tells the servers apart; `pace` shortens their times as the operator's are.

    `heard` is told of each command before it goes on.
    """

    def __init__(
        self,
        letter: str,
        port: int,
        fate: Fate,
        pace: float,
        heard: Callable[[list[bytes]], None] = lambda _command: None,
    ) -> None:
        self._letter = letter
        self._port = port
        self._fate = fate
        self._pace = pace
        self._heard = heard
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends everything."""
        self.hang_up()
        if self._server is not None:
            self._server.close()

    def hang_up(self) -> None:
        """Closes what the dead operator had open."""
        for task in self._open:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._port)
        except (OSError, asyncio.CancelledError):
            self._open.discard(task)
            writer.transport.abort()
            return
        requests, replies = hiredis.Reader(), hiredis.Reader(notEnoughData=_INCOMPLETE)
        try:
            while data := await reader.read(65536):
                requests.feed(data)
                while (command := requests.gets()) is not False:
                    self._heard(command)
                    write = name_of(self._letter, command)
                    dies = self._fate.enter(write)
                    try:
                        upstream.write(hiredis.pack_command(self._hurried(command)))
                        answer = await _reply(upstream_reader, replies)
                    except BaseException:
                        self._fate.abandon()
                        raise
                    self._fate.leave(dies=dies)
                    writer.write(answer)
                await writer.drain()
        except (StruckError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            for each in (writer, upstream):
                each.transport.abort()

    def _hurried(self, command: list[bytes]) -> tuple[bytes, ...]:
        """The command with the server's times shortened too: of a blocking read, of a gate that expires."""
        verb = command[0].upper()
        # A gate that nobody sets any more is gone within the time for which a state must stand still.
        for name, spared in ((b"BLOCK", 1.0), (b"PX", 2.0)):
            if verb in (b"XREAD", b"SET") and name in command:
                at = command.index(name) + 1
                command[at] = str(max(1, int(int(command[at]) * spared / self._pace))).encode()
        return tuple(command)


async def _reply(reader: asyncio.StreamReader, parser: hiredis.Reader) -> bytes:
    """One reply as it came: nothing else is under way on its connection."""
    answer = b""
    while True:
        part = await reader.read(65536)
        if not part:
            raise ConnectionResetError
        answer += part
        parser.feed(part)
        if parser.gets() is not _INCOMPLETE:
            return answer


def name_of(letter: str, command: list[bytes]) -> str | None:
    """What a write is called; None when it is none."""
    verb = command[0].decode().upper()
    if verb in _READS:
        return None
    if verb == "EVALSHA":
        script = _SCRIPTS.get(command[1].decode())
        if script is not None and "no-writes" in script.text.partition("\n")[0]:
            return None
        return f"redis {letter}: {script.name if script else 'unknown script'} {_partition(command[3])}"
    if verb == "SCRIPT":
        return f"redis {letter}: SCRIPT {command[1].decode().upper()}"
    where = _partition(command[1]) if len(command) > 1 else ""
    # Which key comes first is the server's choice.
    return f"redis {letter}: {verb} {where.partition(' ')[0] if verb == 'UNLINK' else where}"


def _partition(key: bytes) -> str:
    found = _TAG.search(key)
    if found is None:
        return ""
    with contextlib.suppress(UnicodeDecodeError):
        return f"{found[1].decode()} {found[2].decode()}".strip()
    return found[1].decode()

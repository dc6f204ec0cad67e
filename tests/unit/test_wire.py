"""A worker's connection, without a server: replies to those who wait, in order, however the bytes come."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.streams import (
    DeniedError,
    Doorbell,
    NotProvisionedError,
    Server,
    ServerRefusedError,
    ServerUnavailableError,
    StreamsError,
)
from headgate.streams import doorbell as doorbell_module
from headgate.streams import wire as wire_module
from headgate.streams.refusals import meaning
from headgate.streams.script import PUBLISH, SETTLE, Script
from headgate.streams.url import read_url
from headgate.streams.wire import Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


TARGET = read_url("redis://test")


class Transport:
    """Where a wire's bytes go."""

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[Wire, Transport]:
    wire, transport = Wire(TARGET), Transport()
    wire.connection_made(transport)  # type: ignore[arg-type]
    return wire, transport


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8), st.integers(1, 20))
def test_replies_come_in_the_order_of_the_commands_however_they_are_cut(
    replies: list[bytes], size: int
) -> None:
    async def run() -> list[Any]:
        wire, _ = connected()
        waiting = [wire.send(("GET", str(number))) for number in range(len(replies))]
        stream = b"".join(b"$%d\r\n%b\r\n" % (len(reply), reply) for reply in replies)
        for start in range(0, len(stream), size):
            wire.data_received(stream[start : start + size])
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == replies


async def test_a_command_is_sent_as_the_protocol_wants_it() -> None:
    wire, transport = connected()
    wire.send(("SET", b"\x00\xff", 12, "ä"))
    assert transport.sent == b"*4\r\n$3\r\nSET\r\n$2\r\n\x00\xff\r\n$2\r\n12\r\n$2\r\n\xc3\xa4\r\n"


async def test_who_waits_on_a_connection_that_breaks_hears_it_and_so_does_who_comes_later() -> None:
    wire, _ = connected()
    waiting = wire.send(("PING",))
    assert wire.is_open
    wire.connection_lost(None)
    assert not wire.is_open
    for each in (waiting, wire.send(("PING",))):
        with pytest.raises(ServerUnavailableError, match="connection lost"):
            await each


async def test_a_reply_nobody_waits_for_any_more_is_not_the_next_ones() -> None:
    wire, _ = connected()
    given_up, waiting = wire.send(("GET", "a")), wire.send(("GET", "b"))
    given_up.cancel()
    wire.data_received(b"$1\r\na\r\n$1\r\nb\r\n")
    assert await waiting == b"b"


async def test_a_command_that_cannot_be_sent_takes_no_others_reply() -> None:
    wire, transport = connected()
    with pytest.raises(UnicodeEncodeError):
        wire.send(("GET", "\ud800"))
    assert transport.sent == b""
    waiting = wire.send(("GET", "a"))
    wire.data_received(b"$1\r\na\r\n")
    assert await asyncio.wait_for(waiting, 1) == b"a"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("NOGROUP No such key 'x' or consumer group 'a'", NotProvisionedError),
        ("ERR no such key script: 1, on @user_script:3.", NotProvisionedError),
        ("MOVED 3999 127.0.0.1:6381", ServerUnavailableError),
        ("CLUSTERDOWN The cluster is down", ServerUnavailableError),
        ("LOADING Redis is loading the dataset in memory", ServerUnavailableError),
        ("READONLY You can't write against a read only replica.", ServerUnavailableError),
        ("OOM command not allowed when used memory > 'maxmemory'.", ServerRefusedError),
        ("NOAUTH Authentication required.", ServerRefusedError),
        ("WRONGPASS invalid username-password pair or user is disabled.", ServerRefusedError),
        ("NOPERM User w has no permissions to run the 'xack' command", ServerRefusedError),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", ServerUnavailableError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", ServerUnavailableError),
        ("BUSY Redis is busy running a script", ServerUnavailableError),
        ("ERR WAIT cannot be used with replica instances.", ServerUnavailableError),
        ("WRONGTYPE Operation against a key", StreamsError),
    ],
)
def test_an_error_reply_says_what_it_means(text: str, meant: type[Exception]) -> None:
    error = meaning(text, "test")
    assert type(error) is meant
    assert text.split(maxsplit=1)[0] in str(error)


@pytest.mark.parametrize(
    ("script", "line", "command"), [(SETTLE, "'XACK'", "XACK"), (PUBLISH, "'XADD', KEYS[lane]", "XADD")]
)
@pytest.mark.parametrize(
    "said",
    [
        "ERR The user executing the script can't run this command or subcommand script: 0b1, on @user_script:{}.",
        "ERR ACL failure in script: User w has no permissions to run the 'x' command script: on @user_script:{}.",
    ],
)
def test_a_denial_within_a_script_names_the_script_and_the_command(
    script: Script, line: str, command: str, said: str
) -> None:
    at = next(number for number, text in enumerate(script.text.splitlines(), 1) if line in text)
    error = meaning(said.format(at), "test", script)
    assert type(error) is DeniedError
    assert f"{script.name} runs" in str(error)
    assert command in str(error)


@pytest.mark.parametrize(
    ("options", "mode", "checks_name"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_tls_is_what_the_url_says_as_for_the_operator(options: str, mode: ssl.VerifyMode, checks_name: bool):
    context = wire_module._tls(read_url(f"rediss://server{options}"))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (mode, checks_name)


class Peer:
    """A server that answers every command with the same bytes, or with none; knows how many stay connected."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(self.answer)
        writer.close()
        self.gone.set()

    async def meet(self, guest: Callable[[Server], Awaitable[object]], login: str = "") -> str:
        """What a guest is told, once it has hung up."""
        listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            with pytest.raises(StreamsError) as told:
                await guest(Server.connect(f"redis://{login}127.0.0.1:{port}"))
            async with asyncio.timeout(5):
                await self.gone.wait()
        return str(told.value)


def test_a_wire_whose_login_is_refused_hangs_up():
    peer = Peer(b"-WRONGPASS invalid username-password pair\r\n")
    assert "WRONGPASS" in asyncio.run(peer.meet(lambda server: open_wire(server, "key"), ":secret@"))


def test_a_wire_whose_login_is_not_answered_hangs_up_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire_module, "_OPEN_SECONDS", 0.1)
    said = asyncio.run(Peer(b"").meet(lambda server: open_wire(server, "key"), ":secret@"))
    assert said.endswith("timed out")


def test_a_doorbell_on_a_connection_that_died_silently_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doorbell_module, "SOCKET_SECONDS", 0.1)
    said = asyncio.run(Peer(b"").meet(lambda server: Doorbell(server).wait({"lane": "0-0"}, 0.01)))
    assert said.endswith("no answer")


def test_what_a_server_says_unasked_is_why_the_connection_ends():
    async def run() -> str:
        wire, transport = connected()
        wire.data_received(b"-ERR max number of clients reached\r\n")
        assert transport.aborted
        wire.connection_lost(None)
        with pytest.raises(ServerUnavailableError) as told:
            await wire.send(("PING",))
        return str(told.value)

    assert "maxclients" in asyncio.run(run())


def test_what_is_no_redis_server_is_said_to_be_none():
    async def run() -> str:
        wire, transport = connected()
        waiting = wire.send(("PING",))
        wire.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert transport.aborted
        wire.connection_lost(None)
        with pytest.raises(ServerUnavailableError) as told:
            await waiting
        return str(told.value)

    assert "no Redis server" in asyncio.run(run())


@pytest.mark.parametrize(
    ("reply", "doubted", "left"),
    [
        (b"-MOVED 1 h:1\r\n", 1, True),
        (b"-READONLY\r\n", 1, True),
        (b"-TRYAGAIN\r\n", 1, False),
        (b"-BUSY x\r\n", 0, False),
        (b"+OK\r\n", 0, False),
    ],
)
async def test_a_node_that_has_the_key_no_more_is_left_and_the_next_address_asked_anew(
    reply: bytes, doubted: int, left: bool
):
    calls: list[int] = []
    wire, transport = Wire(TARGET, lambda: calls.append(1)), Transport()
    wire.connection_made(transport)  # type: ignore[arg-type]
    asking = asyncio.ensure_future(wire.call("GET", "a"))
    await asyncio.sleep(0)
    wire.data_received(reply)
    await asyncio.gather(asking, return_exceptions=True)
    assert (len(calls), transport.aborted) == (doubted, left)


async def test_a_reply_of_many_megabytes_comes_whole() -> None:
    wire, _ = connected()
    waiting = wire.send(("GET", "a"))
    reply = bytes(range(256)) * (80 << 10)
    stream = b"$%d\r\n%b\r\n" % (len(reply), reply)
    for start in range(0, len(stream), 256 << 10):
        wire.data_received(stream[start : start + (256 << 10)])
    assert await waiting == reply

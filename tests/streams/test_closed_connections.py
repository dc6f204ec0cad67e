"""A connection that is closed under a command is a server that is unavailable; other errors are told as they are."""

from __future__ import annotations

import pytest

from headgate.streams import Server, ServerUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        AttributeError("'NoneType' object has no attribute 'writelines'"),
    ],
)
async def test_what_the_library_raises_on_a_closed_connection_is_an_unavailable_server(
    redis7_url: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object) -> None:
        raise error

    server = Server.connect(redis7_url)
    monkeypatch.setattr(server._client, "execute_command", closed)
    with pytest.raises(ServerUnavailableError):
        await server.execute("k", "INCR", "k")
    await server.aclose()


async def test_any_other_error_of_the_library_is_told_as_it_is(
    redis7_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    server = Server.connect(redis7_url)
    monkeypatch.setattr(server._client, "execute_command", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        await server.execute("k", "INCR", "k")
    await server.aclose()

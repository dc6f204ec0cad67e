"""Real servers for this tier; a test that takes `server_url` or `server` runs once for each kind.

Servers start on first use and stop with the session. What a test left behind is flushed before the next one.
A server that is missing fails the test and says where it comes from. Nothing is skipped.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.servers import KINDS, NEWER, SERVERS, flush

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from headgate.streams import Server
    from streams.targets import Target

SCRIPTS = Path(__file__).parents[2] / "workers" / "headgate" / "streams" / "scripts"


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[[str], str]]:
    """`start_server(kind)` gives the URL of the session's one server of a kind, such as redis7 or cluster."""
    urls: dict[str, str] = {}
    with contextlib.ExitStack() as running:

        def start(kind: str) -> str:
            if kind not in urls:
                urls[kind] = running.enter_context((SERVERS | NEWER)[kind]())
            return urls[kind]

        yield start


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `server` runs on every kind; a script's own tests on the newest Redis too."""
    if "server_url" in metafunc.fixturenames:
        names = {f"test_{path.stem}" for path in SCRIPTS.glob("*.lua")}
        of_script = metafunc.module.__name__.rpartition(".")[2] in names
        kinds = dict.fromkeys((*KINDS, "redis8") if of_script else KINDS)
        metafunc.parametrize("server_url", tuple(kinds), indirect=True)


@pytest.fixture
def server_url(request: pytest.FixtureRequest, start_server: Callable[[str], str]) -> str:
    """URL of an empty server; the test runs once for each of redis7, valkey and cluster."""
    return _empty(start_server(request.param))


@pytest.fixture
def redis7_url(start_server: Callable[[str], str]) -> str:
    """URL of an empty Redis 7."""
    return _empty(start_server("redis7"))


@pytest.fixture
def valkey_url(start_server: Callable[[str], str]) -> str:
    """URL of an empty Valkey."""
    return _empty(start_server("valkey"))


@pytest.fixture
def cluster_url(start_server: Callable[[str], str]) -> str:
    """URL of an empty Redis Cluster of three masters."""
    return _empty(start_server("cluster"))


@pytest.fixture
async def server(server_url: str) -> AsyncIterator[Server]:
    """A connected `Server` on an empty server, once for each kind."""
    from headgate.streams import Server  # noqa: PLC0415 - tests of the servers themselves need no data plane

    connected = Server.connect(server_url)
    yield connected
    await connected.aclose()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Server]:
    """A connected `Server` on an empty Valkey, for what no kind of server changes."""
    from headgate.streams import Server  # noqa: PLC0415 - as above

    connected = Server.connect(valkey_url)
    yield connected
    await connected.aclose()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """A service on loopback that answers pushes as it is told."""
    from streams.targets import serving  # noqa: PLC0415 - as above

    async with serving() as made:
        yield made


def _empty(url: str) -> str:
    flush(url)
    return url

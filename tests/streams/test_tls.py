"""TLS with certificates on both sides: what is right works for every client, and what is wrong says what to do."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from headgate.event import NewEvent
from headgate.streams import Publisher, Replicated, Server, ServerRefusedError, ServerUnavailableError
from headgate.streams.wire import open_wire
from streams.certificates import Authority, Certificate
from streams.desk import desk
from streams.fleets import single
from streams.servers import free_port
from streams.workers import workers_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Secured:
    """A server that shows a certificate and wants one, and what it takes to talk to it."""

    plain_port: int
    port: int
    authority: Authority
    stranger: Authority
    client: Certificate

    def url(self, host: str = "127.0.0.1", scheme: str = "rediss", **options: str) -> str:
        """A URL with the right options, but for those given; an empty one is left out."""
        right = {
            "ssl_ca_certs": str(self.authority.file),
            "ssl_certfile": str(self.client.file),
            "ssl_keyfile": str(self.client.key),
        }
        chosen = {name: value for name, value in (right | options).items() if value}
        return f"{scheme}://{host}:{self.port}?{urlencode(chosen)}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder / "ca"), Authority(folder / "stranger")
    shown = authority.sign("server", "IP:127.0.0.1,DNS:redis.test")
    port = free_port()
    options = [
        "--tls-port",
        str(port),
        "--tls-auth-clients",
        "yes",
        "--tls-ca-cert-file",
        str(authority.file),
    ]
    options += ["--tls-cert-file", str(shown.file), "--tls-key-file", str(shown.key)]
    with single(options) as node:
        yield Secured(node.port, port, authority, stranger, authority.sign("client", "DNS:worker"))


async def told(url: str) -> tuple[str, str]:
    """What the general client and a worker's wire say, when they are refused."""
    async with aclosing(Server.connect(url)) as server:
        with pytest.raises(ServerUnavailableError) as general:
            await server.ping()
        with pytest.raises(ServerUnavailableError) as ours:
            await (await open_wire(server, "key")).call("PING")
    return str(general.value), str(ours.value)


async def test_publisher_and_worker_talk_tls_with_certificates_on_both_sides(
    secured: Secured, tmp_path: Path
) -> None:
    async with aclosing(Server.connect(secured.url())) as server, desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract())
            await canal.publish({"do": "return"})
            assert (await canal.settled(events=1)).done == 1


async def test_a_name_that_the_certificate_does_not_have_is_refused_unless_the_url_says_not_to_look(
    secured: Secured,
) -> None:
    for said in await told(secured.url("localhost")):
        assert "connect by a name that the certificate has, or give ssl_check_hostname=false" in said
    async with aclosing(Server.connect(secured.url("localhost", ssl_check_hostname="false"))) as server:
        await server.ping()
        wire = await open_wire(server, "key")
        assert await wire.call("PING") == b"PONG"
        wire.close()


async def test_a_server_of_an_unknown_authority_is_refused(secured: Secured) -> None:
    for ca in (str(secured.stranger.file), ""):
        for said in await told(secured.url(ssl_ca_certs=ca)):
            assert "its certificate is refused" in said
            assert "give the file of its authority as ssl_ca_certs=" in said


async def test_without_a_clients_certificate_it_is_said_that_one_is_wanted(secured: Secured) -> None:
    for said in await told(secured.url(ssl_certfile="", ssl_keyfile="")):
        assert "the server wants a client's certificate" in said
        assert "ssl_certfile=" in said


async def test_a_clients_certificate_of_another_authority_is_refused(secured: Secured) -> None:
    other = secured.stranger.sign("client", "DNS:worker")
    for said in await told(secured.url(ssl_certfile=str(other.file), ssl_keyfile=str(other.key))):
        assert "authority of our certificate" in said or "refuses ours" in said
        assert "ssl_certfile=" in said


async def test_a_port_without_tls_is_said_to_have_none(secured: Secured) -> None:
    url = secured.url().replace(str(secured.port), str(secured.plain_port))
    for said in await told(url):
        assert "see whether this one speaks TLS" in said


async def test_a_file_that_is_not_there_is_named(secured: Secured) -> None:
    for option in ("ssl_ca_certs", "ssl_certfile"):
        for said in await told(secured.url(**{option: "/nowhere/at-all.pem"})):
            assert f"{option}=/nowhere/at-all.pem" in said


async def test_a_publish_refused_by_tls_is_not_repeated_for_seconds(secured: Secured) -> None:
    async with (
        aclosing(Server.connect(secured.url("localhost"))) as server,
        aclosing(Server.connect(secured.url())) as right,
        desk(right) as canal,
    ):
        for durability in (None, Replicated(1, 1)):
            publisher = Publisher(server, canal.keys, durability=durability, retry_seconds=600)
            with pytest.raises(ServerRefusedError, match="ssl_check_hostname"):
                await publisher.publish([NewEvent(data=1)])

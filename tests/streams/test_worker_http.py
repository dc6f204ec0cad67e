"""Handlers in any language: a real worker that pushes to a real server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from headgate.contract import (
    BatchSettings,
    JoinContract,
    RetryContract,
    RetryRule,
)
from headgate.event import NewEvent
from headgate.join import read_records
from streams.desk import desk
from streams.pushing import errors, new_key, pushed, pushes, some
from streams.targets import Target, serving
from streams.workers import workers_in

if TYPE_CHECKING:
    from headgate.streams import Server

NODE_TARGET = Path(__file__).parents[1] / "data" / "targets" / "target.mjs"


async def test_events_are_pushed_signed_once_each_and_the_answers_are_their_results(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    key, old = new_key(), new_key()
    keys_file = tmp_path / "keys"
    keys_file.write_text(f"{key}\n{old}\n")
    target.answers(201, {"stored": True})
    async with desk(valkey, partitions=2, join=JoinContract(branches=("a",))) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url, {"signing_keys_file": str(keys_file)}))
            await canal.publish(*some(50))
            figures = await canal.settled(events=50)
            records = await read_records(valkey, canal.keys)
    assert (figures.done, figures.retried, figures.dead) == (50, 0, 0)
    assert pushes(target) == {f"e{number}": 1 for number in range(50)}
    for request, body in target.requests:
        for each in (key, old):
            assert Webhook(each).verify(body, dict(request.headers))["n"] < 50
    assert len({request.headers["webhook-id"] for request, _ in target.requests}) == 50
    assert [record.results["a"] for record in records] == [{"stored": True}] * 50


async def test_every_attempt_at_an_event_has_the_same_idempotency_key_and_its_own_number(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    target.answers(500, "not yet")
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url))
            await canal.publish(*some(1))
            await canal.settled(events=1)
            said = await errors(canal)
    headers = [request.headers for request, _ in target.requests]
    assert [each["headgate-attempt"] for each in headers] == ["1", "2", "3"]
    assert {each["idempotency-key"] for each in headers} == {"test/canal/a/0/e0"}
    assert said == {"e0": f'StatusError: POST {target.url} answered 500: "not yet"'}


async def test_a_rule_says_which_statuses_no_retry_mends(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=404 if request.headers["ce-id"] == "e0" else 409)

    target.answer = answer
    retry = RetryContract(
        max_attempts=2,
        initial_seconds=0.05,
        rules=(RetryRule(match="answered 4(00|04|22)"),),
    )
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url, retry=retry))
            await canal.publish(*some(2))
            figures = await canal.settled(events=2)
    assert (figures.dead, figures.retried) == (2, 1)
    assert pushes(target) == {"e0": 1, "e1": 2}


async def test_no_redirect_is_followed_and_the_dead_letter_says_so(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    async with desk(valkey) as canal, serving() as elsewhere:
        target.answers(302, location=elsewhere.url)
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(pushed(canal, target.url))
            await canal.publish(*some(1))
            await canal.settled(events=1)
        assert elsewhere.requests == []
        assert "answered 302, and redirects are not followed" in (await errors(canal))["e0"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_not_pushed_to_and_the_dead_letter_says_how_to_allow_it(
    valkey: Server, target: Target, tmp_path: Path, host: str
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            url = f"http://{host}:{target.port}/?token=hush"
            workers.start(pushed(canal, url, {"allow_networks": ("10.0.0.0/8",)}))
            await canal.publish(*some(1))
            await canal.settled(events=1)
        said = (await errors(canal))["e0"]
    assert target.requests == []
    assert said.startswith(f"UnreachableError: POST http://{host}:{target.port}/: ")
    assert "is loopback and may not be pushed to: add its network to handler.http.allowNetworks" in said
    assert "hush" not in said


async def test_a_batch_is_one_request_and_only_its_failed_events_are_tried_again(
    valkey: Server, target: Target, tmp_path: Path
) -> None:
    sizes: list[int] = []
    attempts: Counter[str] = Counter()

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.headers["content-type"] == "application/cloudevents-batch+json"
        events = json.loads(target.requests[-1][1])
        sizes.append(len(events))
        attempts.update(event["id"] for event in events)
        return web.json_response(
            [
                {"error": "odd ones fail at first"}
                if event["data"]["n"] % 2 and event["attempt"] == 1
                else None
                for event in events
            ]
        )

    target.answer = answer
    async with desk(valkey) as canal:
        await canal.publish(*some(20))
        await canal.xadd({"data": "{", "id": "no-json"})
        with workers_in(tmp_path, valkey.url) as workers:
            batch = BatchSettings(max_events=25, max_wait_seconds=0.3)
            workers.start(pushed(canal, target.url, batch=batch, concurrency=1))
            figures = await canal.settled(events=21)
        said = await errors(canal)
    assert (figures.done, figures.dead, figures.retried) == (20, 1, 10)
    assert attempts == {f"e{n}": 1 + n % 2 for n in range(20)}
    assert max(sizes) == 20
    assert list(said) == ["no-json"]


async def test_a_service_in_another_language_verifies_and_is_done_with_each_event_once(
    valkey: Server, tmp_path: Path
) -> None:
    node = shutil.which("node")
    assert node is not None, "node is not on PATH; install Node.js 20 (Debian: apt-get install nodejs)"
    key = new_key()
    (tmp_path / "keys").write_text(key)
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else waits meanwhile
        [node, str(NODE_TARGET)], env=os.environ | {"SIGNING_KEY": key}, stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None
            url = service.stdout.readline().strip()
            async with desk(valkey, join=JoinContract(branches=("a",))) as canal:
                with workers_in(tmp_path, valkey.url) as workers:
                    workers.start(pushed(canal, url, {"signing_keys_file": str(tmp_path / "keys")}))
                    await canal.publish(
                        *(
                            NewEvent(id=f"ü {n}", data={"text": f"grüße {n}", "lost": n == 3})
                            for n in range(10)
                        )
                    )
                    figures = await canal.settled(events=10)
                records = await read_records(valkey, canal.keys)
        finally:
            service.terminate()
        told = [json.loads(line) for line in service.stdout]
    assert (figures.done, figures.retried, figures.dead) == (10, 1, 0)
    assert sorted(each["id"] for each in told) == [f"ü {n}" for n in range(10)]
    results = {record.id: record.results["a"] for record in records}
    assert results == {f"ü {n}": {"shouted": f"GRÜSSE {n}", "by": "node"} for n in range(10)}


async def test_https_verifies_the_certificate_and_the_hosts_name(
    valkey: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, [*command.split(), *names], check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with desk(valkey) as canal, serving(tls=tls) as target:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(pushed(canal, f"https://localhost:{target.port}/"))
            await canal.publish(NewEvent(id="untrusted", data={}))
            await canal.settled(events=1)
            worker.kill()
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            worker = workers.start(pushed(canal, f"https://127.0.0.1:{target.port}/"))
            await canal.publish(NewEvent(id="misnamed", data={}))
            await canal.settled(events=2)
            worker.kill()
            assert target.requests == []
            workers.start(pushed(canal, f"https://localhost:{target.port}/"))
            await canal.publish(NewEvent(id="good", data={}))
            figures = await canal.settled(events=3)
        said = await errors(canal)
    assert (figures.done, figures.dead) == (1, 2)
    assert "certificate" in said["untrusted"]
    assert "IP address mismatch" in said["misnamed"]


@pytest.mark.parametrize(
    ("url", "settings", "reason"),
    [
        ("ftp://example.com/", {}, "handler.http.url"),
        ("http://example.com/", {"allow_networks": ("10.0.0.1/8",)}, "handler.http.allowNetworks"),
        ("http://example.com/", {"signing_keys_file": "/nowhere/keys"}, "signing keys file '/nowhere/keys'"),
    ],
)
async def test_settings_that_can_never_work_end_the_worker_with_2_and_a_reason(
    valkey: Server, tmp_path: Path, url: str, settings: dict[str, Any], reason: str
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            with pytest.raises(AssertionError, match="ended with 2") as ended:
                workers.start(pushed(canal, url, settings))
            assert reason in str(ended.value)

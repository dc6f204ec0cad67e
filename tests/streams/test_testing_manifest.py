"""What pipelines in users' tests are made of: manifests as they are, handlers of theirs or of the test's."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook

from headgate import (
    NewEvent,
)
from headgate.handlers import HandlerLoadError
from headgate.testing import ManifestError, pipeline
from streams.rehearsing import branch, echo, manifest

if TYPE_CHECKING:
    from streams.targets import Target


async def test_the_manifests_own_functions_are_imported_from_its_folder_and_some_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop_in_folder.py").write_text(
        "import shop_prices_beside\n"
        "async def price(event): return shop_prices_beside.of(event.data)\n"
        "async def charge(event): raise AssertionError('the real one')\n"
    )
    (tmp_path / "shop_prices_beside.py").write_text("def of(item): return {'tea': 3}[item]\n")
    spec = manifest(
        branch("price", handler={"python": {"image": "i", "function": "shop_in_folder:price"}}),
        branch("charge", handler={"python": {"image": "i", "function": "shop_in_folder:charge"}}),
        join={"branches": ["price", "charge"]},
    )
    fake = AsyncMock(return_value="charged")
    async with pipeline(spec, handlers={"charge": fake}, folder=tmp_path) as orders:
        await orders.publish("tea")
        await orders.settled()
        (record,) = await orders.records()
    assert record.results == {"price": 3, "charge": "charged"}
    fake.assert_awaited_once()


async def test_a_module_of_another_folder_is_not_taken_for_the_manifests(tmp_path: Path) -> None:
    spec = manifest(branch("a", handler={"python": {"image": "i", "function": "shop_twice:handle"}}))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop_twice.py").write_text("async def handle(event): pass\n")
    async with pipeline(spec, folder=tmp_path / "one"):
        pass
    with pytest.raises(HandlerLoadError, match=r"'shop_twice' was imported from .*one.* before"):
        async with pipeline(spec, folder=tmp_path / "two"):
            pass


async def test_every_mistake_of_a_manifest_is_told_with_its_field() -> None:
    spec = manifest(branch("charge", concurrency=0, filter="event.nothing"), join={"branches": ["chrge"]})
    with pytest.raises(ManifestError) as found:
        async with pipeline(spec, handlers={}):
            pass
    said = str(found.value)
    assert "spec.branches[0].concurrency" in said
    assert "spec.branches[0].filter" in said


async def test_text_is_a_manifest_and_what_is_none_is_told() -> None:
    with pytest.raises(ManifestError, match="has no FanoutPipeline"):
        async with pipeline("kind: Secret\n"):
            pass
    with pytest.raises(ManifestError, match="is not YAML"):
        async with pipeline("a: [\n"):
            pass
    with pytest.raises(FileNotFoundError):
        async with pipeline("no-such.yaml"):
            pass


async def test_a_replacement_of_no_branch_is_refused_with_the_branches_there_are() -> None:
    with pytest.raises(ValueError, match="'chrge' is no branch; give one of orders/charge"):
        async with pipeline(manifest(branch("charge")), handlers={"chrge": echo}):
            pass


async def test_a_branch_that_pushes_needs_a_function_or_the_url_of_a_service() -> None:
    spec = manifest(branch("notify", handler={"http": {"url": "https://hooks.example/"}}))
    with pytest.raises(ManifestError, match=r"spec.branches\[0\].handler.http: nothing is pushed to"):
        async with pipeline(spec):
            pass
    async with pipeline(spec, handlers={"notify": echo}) as orders:
        await orders.publish(1)
        await orders.settled()
        assert [each.event.data for each in orders.attempts("notify")] == [1]


async def test_a_service_that_runs_is_pushed_to_signed_with_the_key_of_the_manifests_secret(
    target: Target,
) -> None:
    target.answers(200, {"handled": True})
    http = {"url": "https://hooks.example/orders?by=headgate", "signingSecretRef": {"name": "hooks"}}
    spec = manifest(branch("notify", handler={"http": http}), join={"branches": ["notify"]})
    key = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    secret = {"kind": "Secret", "metadata": {"name": "hooks"}, "stringData": {"keys": key}}
    with pytest.raises(ManifestError, match="name: 'hooks': no such Secret"):
        async with pipeline(spec, handlers={"notify": target.url}):
            pass
    host = target.url.removesuffix("/events")
    both = f"{json.dumps(spec)}\n---\n{json.dumps(secret)}\n"
    async with pipeline(both, handlers={"notify": host}) as orders:
        await orders.publish({"total": 5}, id="o1")
        await orders.settled()
        (record,) = await orders.records()
        assert record.results == {"notify": {"handled": True}}
    ((request, body),) = target.requests
    assert request.path_qs == "/orders?by=headgate"
    assert Webhook(key).verify(body, dict(request.headers)) == {"total": 5}


async def test_a_container_is_stood_in_for_by_a_service_that_runs(target: Target) -> None:
    spec = manifest(branch("resize", handler={"container": {"image": "i", "path": "/resize"}}))
    async with pipeline(spec, handlers={"orders/resize": target.url.removesuffix("/events")}) as orders:
        await orders.publish({"total": 5})
        await orders.settled()
    assert [request.path for request, _ in target.requests] == ["/resize"]


async def test_fields_go_with_the_data_of_one_event() -> None:
    async with pipeline(manifest(branch("charge")), handlers={"charge": echo}) as orders:
        for events in (("a", "b"), (NewEvent(data=1),), ([NewEvent(data=1), NewEvent(data=2)],), ()):
            with pytest.raises(TypeError, match="publish: id with"):
                await orders.publish(*events, id="o1")
        receipts = await orders.publish(
            NewEvent(data=1, id="a"), (NewEvent(data=2, id=i) for i in "bc"), [1, 2]
        )
        assert [receipt.id for receipt in receipts][:3] == ["a", "b", "c"]
        await orders.settled()
        assert [each.event.data for each in orders.attempts("charge")] == [1, 2, 2, [1, 2]]


def test_the_server_ends_with_the_process_also_when_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from headgate.testing import pipeline
from streams.rehearsing import branch, echo, manifest
async def main():
    async with pipeline(manifest(branch("charge")), handlers={{"charge": echo}}) as orders:
        print(orders.url, flush=True)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    for how in ("ended", "killed"):
        done = subprocess.run(
            [sys.executable, "-c", code, how],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        url = urlsplit(next(line for line in done.stdout.splitlines() if line.startswith("redis://")))
        deadline = time.monotonic() + 20
        while listens(url.port) or [*tmp_path.glob("headgate-testing-*")]:
            assert time.monotonic() < deadline, f"{how}: the server or its folder is still there"
            time.sleep(0.02)


def listens(port: int | None) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port or 0)) == 0

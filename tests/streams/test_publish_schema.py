"""A source with a schema: what does not conform is refused before anything is published, and by workers otherwise."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headgate.event import NewEvent
from headgate.streams import Publisher, RefusedEventError, Server, SourceSettings, ensure_groups
from streams.desk import Desk, desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}},
}


@pytest.fixture
async def canal(valkey_url: str) -> AsyncIterator[Desk]:
    server = Server.connect(valkey_url)
    async with desk(server, partitions=2) as made:
        await ensure_groups(server, made.keys, ["a"], SourceSettings(schema=SCHEMA))
        yield made
    await server.aclose()


async def opened(canal: Desk) -> Publisher:
    return await Publisher.open(canal.server, "test", "canal")


async def test_one_event_that_does_not_conform_and_nothing_is_published(canal: Desk) -> None:
    publisher = await opened(canal)
    events = [NewEvent(id=f"e{n}", data={"n": n}) for n in range(300)]
    events[205] = NewEvent(id="odd", data={"n": "205"})
    with pytest.raises(RefusedEventError) as refused:
        await publisher.publish(events)
    assert str(refused.value).startswith('event 205 (id \'odd\'): data.n: "205" is not of type "integer"')
    assert refused.value.place == 205
    assert (await canal.measured()).published == 0
    await publisher.publish([*events[:205], *events[206:]])
    assert (await canal.measured()).published == 299


async def test_what_is_checked_is_what_workers_will_read(canal: Desk) -> None:
    when = dt.datetime.now(dt.UTC)
    (receipt,) = await (await opened(canal)).publish([NewEvent(data={"n": 1, "at": when})])
    assert not receipt.duplicate


async def test_headgate_publish_tells_line_and_place_and_ends_with_2(canal: Desk, tmp_path: Path) -> None:
    lines = [{"data": {"n": 1}, "id": "good"}, {"data": {"m": 1}}]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    for arguments, where in (
        (["--file", str(file)], f"headgate: {file}:2: data is "),
        (["--data", '{"n": 1.5}'], "headgate: --data: data.n: 1.5 is not of type"),
    ):
        command = [str(Path(sys.executable).with_name("headgate")), "publish", "-p", "test/canal", *arguments]
        command += ["--redis-url", canal.server.url]
        said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - a test
        assert (said.returncode, said.stdout, len(said.stderr.splitlines())) == (2, "", 1)
        assert said.stderr.startswith(where)
    assert (await canal.measured()).published == 0


MANIFEST = """\
apiVersion: headgate.dev/v1alpha1
kind: FanoutPipeline
metadata:
  name: canal
  annotations: {headgate.dev/sample-events: "samples:events"}
spec:
  source:
    schema: {type: object, required: [n], properties: {n: {type: integer}}}
  branches:
  - name: a
    handler: {python: {image: none, function: "samples:handle"}}
"""
SAMPLES = """\
def events(count):
    return [{"data": {"n": n if n != 7 else "seven"}} for n in range(count)]

async def handle(event):
    return None
"""


def test_a_sample_that_does_not_conform_ends_a_run_with_2_and_its_number(
    valkey_url: str, tmp_path: Path
) -> None:
    (tmp_path / "pipeline.yaml").write_text(MANIFEST)
    (tmp_path / "samples.py").write_text(SAMPLES)
    command = [str(Path(sys.executable).with_name("headgate")), "run", "pipeline.yaml", "--publish", "10"]
    command += ["--until-settled", "--redis-url", valkey_url]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90)
    assert said.returncode == 2, said.stderr
    assert 'sample event 7: data.n: "seven" is not of type "integer"' in said.stderr

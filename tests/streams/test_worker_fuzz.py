"""Whatever bytes stand in whatever field, a real worker settles each entry: done, or dead-lettered with its reason."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from headgate.event import Lane
from headgate.streams import read_dead_letters
from streams.desk import QUICK, desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.streams import Server

NAMES = [
    b"data",
    b"id",
    b"type",
    b"source",
    b"key",
    b"time",
    b"traceparent",
    b"root",
    b"lane",
    b"attempt",
    b"origin",
]
ENTRIES = 300


def junk(dice: Random) -> bytes:
    """Any bytes; now and then what looks right, or nearly so."""
    nearly = [
        b"",
        b"1",
        b"-1",
        b"9" * 30,
        b"null",
        b'{"do":"return"}',
        b"[" * 5000,
        b"high",
        b"\xff\xfe",
        b"\0",
    ]
    return dice.choice(nearly) if dice.random() < 0.4 else dice.randbytes(dice.randrange(60))


def entry(dice: Random) -> list[bytes]:
    """The fields of one entry: known names and any others, in any number and order, some twice."""
    fields: list[bytes] = []
    for _ in range(dice.randrange(1, 9)):
        fields += (
            dice.choice(NAMES) if dice.random() < 0.8 else dice.randbytes(dice.randrange(9)),
            junk(dice),
        )
    return fields


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_bytes_in_any_field_are_settled_and_never_end_a_worker(
    server: Server, tmp_path: Path, seed: int
) -> None:
    dice = Random(seed)
    async with desk(server) as canal:
        keys = canal.keys.partition(0)
        streams = [*(keys.lane(lane) for lane in Lane), keys.retry("a")]
        for _ in range(ENTRIES):
            stream = dice.choice(streams)
            await server.execute(stream, "XADD", stream, "*", *entry(dice))
        with workers_in(tmp_path, server.url) as workers:
            worker = workers.start(canal.contract(retry=QUICK))
            figures = await canal.settled(events=ENTRIES)
            assert worker.exit_code is None
            assert len(workers.started) == 1
        letters = await read_dead_letters(server, canal.keys, "a", limit=2 * ENTRIES)
    assert (figures.settled, figures.backlog) == (ENTRIES, 0)
    assert len(letters) == figures.dead > 100
    assert all(letter.error for letter in letters)

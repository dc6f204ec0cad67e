"""Reads back what a run left on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from chaos.ledger.canal import KEYS, ORDER_KEYS, OUT_KEYS
from chaos.ledger.plan import BRANCHES
from chaos.ledger.verify import Joined, Ledger
from headgate.event import DATA
from headgate.join import Record, read_records
from headgate.streams import PipelineKeys, Server, measure, read_counts, read_dead_letters, read_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PAGE = 2000
_EVERY = 1_000_000


async def read_ledger(server: Server) -> Ledger:
    """Everything there is; call it when the workers are gone."""
    (figures,) = await measure(server, [(KEYS, BRANCHES)])
    assert figures is not None, "the pipeline cannot be measured"
    order: dict[str, list[int]] = {}
    async for line in _emitted(server, ORDER_KEYS):
        order.setdefault(line["key"], []).append(line["sequence"])
    return Ledger(
        records=[_joined(record) for record in await read_records(server, KEYS)],
        dead={
            branch: [letter.id for letter in await read_dead_letters(server, KEYS, branch, _EVERY)]
            for branch in BRANCHES
        },
        done={branch: figure.done for branch, figure in figures.branches.items()},
        filtered={branch: figure.filtered for branch, figure in figures.branches.items()},
        counts=await read_counts(server, KEYS),
        values=await read_values(server, KEYS),
        out=[line["of"] async for line in _emitted(server, OUT_KEYS)],
        order=order,
        open_joins=figures.open_joins,
        late=figures.late,
        backlog={branch: figure.backlog or 0 for branch, figure in figures.branches.items()},
        outboxed=await outboxed(server),
    )


async def outboxed(server: Server) -> int:
    """Effects that are not relayed yet."""
    lengths = [
        int(await server.execute(partition.outbox, "XLEN", partition.outbox)) for partition in KEYS.all
    ]
    return sum(lengths)


async def _emitted(server: Server, keys: PipelineKeys) -> AsyncIterator[Any]:
    """The data of every event in a pipeline's lanes, in the order it stands there."""
    for partition in keys.all:
        for lane in partition.lanes:
            start = "-"
            while page := await server.execute(lane, "XRANGE", lane, start, "+", "COUNT", _PAGE):
                for _, fields in page:
                    yield msgspec.json.decode(fields[DATA])
                start = f"({page[-1][0].decode()}"


def _joined(record: Record) -> Joined:
    return Joined(
        id=record.id,
        is_complete=record.complete,
        results=record.results,
        failed=frozenset(record.failed),
        missing=frozenset(record.missing),
        parts=record.parts,
    )

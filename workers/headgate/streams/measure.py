"""Measuring: every pipeline's backlog in one round trip, read-only. An unknown figure is None, never zero."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import Lane
from headgate.streams.gate import Gate
from headgate.streams.script import MEASURE
from headgate.streams.server import Call, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.streams.keys import PipelineKeys


class LaneMeasurement(msgspec.Struct, kw_only=True):
    """One lane of one branch: events not delivered yet (None: unknown), delivered but unsettled, oldest age in ms."""

    undelivered: int | None = 0
    pending: int = 0
    age_ms: int = 0

    @property
    def backlog(self) -> int | None:
        """Undelivered and pending; None when unknown."""
        return None if self.undelivered is None else self.undelivered + self.pending


class BranchMeasurement(msgspec.Struct, kw_only=True):
    """One branch over all partitions.

    `done`, `dead`, `retried` and `busy_us` only ever grow; so do `unread_trimmed` (events that a hard cap of the
    retention took before the branch had settled them), `dead_dropped` (dead letters that went because there were too
    many) and `redriven`.

    Where `undelivered` is unknown, there are at least `undelivered_at_least`.

    `gate` is open, delayed (some lanes wait: `held`) or closed (the branch takes nothing until it is opened).
    """

    lanes: dict[Lane, LaneMeasurement] = msgspec.field(
        default_factory=lambda: {lane: LaneMeasurement() for lane in Lane}
    )
    undelivered: int | None = 0
    undelivered_at_least: int = 0
    pending: int = 0
    delayed: int = 0
    dead_letters: int = 0
    age_ms: int = 0
    done: int = 0
    dead: int = 0
    expired: int = 0
    filtered: int = 0
    retried: int = 0
    busy_us: int = 0
    unread_trimmed: int = 0
    dead_dropped: int = 0
    redriven: int = 0
    gate: str = "open"
    held: frozenset[Lane] = frozenset()
    holding: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def backlog(self) -> int | None:
        """Undelivered + pending + delayed; None when the server cannot tell."""
        return None if self.undelivered is None else self.undelivered + self.pending + self.delayed

    @property
    def at_least(self) -> int:
        """Unsettled events there are at least: the backlog, and what is known of it where it is unknown."""
        return self.undelivered_at_least + self.pending + self.delayed

    @property
    def settled(self) -> int:
        """Events with a final outcome: done, dead-lettered or filtered out."""
        return self.done + self.dead + self.filtered


class PipelineMeasurement(msgspec.Struct, kw_only=True):
    """One pipeline at one time (server clock, ms). `published`, `joined`, `partial` and `late` only ever grow.

    `outbox` are effects that are not relayed yet to the pipelines they are for.
    """

    now_ms: int = 0
    published: int = 0
    joined: int = 0
    partial: int = 0
    late: int = 0
    open_joins: int = 0
    outbox: int = 0
    branches: dict[str, BranchMeasurement] = msgspec.field(default_factory=dict)
    last_ids: dict[str, str] = msgspec.field(default_factory=dict)
    said: list[Any] = msgspec.field(default_factory=list)
    """What the server said of each partition, but for the time."""

    @property
    def is_ageing(self) -> bool:
        """Whether it is another one a moment later although nothing happens: something waits, and grows older."""
        return any(branch.backlog != 0 for branch in self.branches.values())


async def measure(
    server: Server,
    wanted: Sequence[tuple[PipelineKeys, Sequence[str]]],
    known: Sequence[PipelineMeasurement | None] = (),
    *,
    failed: Callable[[int, Exception], None] | None = None,
) -> list[PipelineMeasurement | None]:
    """Measures pipelines (their keys and branches), in one round trip on a single server.

    None stands for a pipeline the server could not measure; `failed` is told which of `wanted` that is, and why. Raises
    ServerUnavailableError when it cannot be reached.
    `known` are earlier measurements of the same: one of which nothing changed comes back as the same object, with the
    time of now. Of a thousand pipelines at rest that is nearly all, and a comparison costs a tenth of the figures.
    """
    calls = [
        Call(MEASURE, (*partition.lanes, f"{partition.tag}:"), tuple(branches))
        for keys, branches in wanted
        for partition in keys.all
    ]
    replies = iter(await server.run_all(calls))
    measured: list[PipelineMeasurement | None] = []
    for number, ((keys, branches), before) in enumerate(zip_longest(wanted, known)):
        parts = [next(replies) for _ in keys.all]
        errors = [part for part in parts if isinstance(part, Exception)]
        if errors:
            measured.append(None)
            if failed is not None:
                failed(number, errors[0])
            continue
        said = [part[1:] for part in parts]
        if before is not None and _is_still(before, said, branches):
            before.now_ms = max(part[0] for part in parts)
            measured.append(before)
            continue
        whole = PipelineMeasurement(branches={branch: BranchMeasurement() for branch in branches}, said=said)
        for partition, part in zip(keys.all, parts, strict=True):
            _add_partition(whole, partition.lanes, part, branches)
        measured.append(whole)
    return measured


def _is_still(before: PipelineMeasurement, said: list[Any], branches: Sequence[str]) -> bool:
    return before.said == said and tuple(before.branches) == tuple(branches) and not before.is_ageing


def _add_partition(
    whole: PipelineMeasurement, lanes: Sequence[str], part: list[Any], branches: Sequence[str]
) -> None:
    now_ms, published, open_joins, outbox, counters, last_ids, *figures = part
    stats = {name.decode(): int(value) for name, value in zip(counters[::2], counters[1::2], strict=True)}
    whole.now_ms = max(whole.now_ms, now_ms)
    whole.published += published
    whole.open_joins += open_joins
    whole.outbox += outbox
    whole.joined += stats.get("joined", 0)
    whole.partial += stats.get("partial", 0)
    whole.late += stats.get("late", 0)
    whole.last_ids |= {lane: last.decode() for lane, last in zip(lanes, last_ids, strict=True)}
    for branch, (streams, delayed, dead_letters, gate, holders) in zip(branches, figures, strict=True):
        figure = whole.branches[branch]
        for lane, stream in zip((*Lane, None), streams, strict=True):
            _add_stream(figure, lane, stream, now_ms)
        figure.delayed += delayed + stats.get(f"parked:{branch}", 0)
        figure.dead_letters += dead_letters
        if gate and figure.gate != "closed":
            figure.gate = "closed" if gate == b"closed" else "delayed"
            figure.held |= Gate.lanes(gate.decode())
        figure.done += stats.get(f"done:{branch}", 0)
        figure.dead += stats.get(f"dead:{branch}", 0)
        figure.expired += stats.get(f"expired:{branch}", 0)
        figure.filtered += stats.get(f"filtered:{branch}", 0)
        figure.retried += stats.get(f"retried:{branch}", 0)
        figure.busy_us += stats.get(f"busy:{branch}", 0)
        figure.unread_trimmed += stats.get(f"unread_trimmed:{branch}", 0)
        figure.dead_dropped += stats.get(f"dead_dropped:{branch}", 0)
        figure.redriven += stats.get(f"redriven:{branch}", 0)
        for consumer, pending in zip(holders[::2], holders[1::2], strict=True):
            worker = worker_of(consumer.decode())
            figure.holding[worker] = figure.holding.get(worker, 0) + pending


def _add_stream(figure: BranchMeasurement, lane: Lane | None, stream: list[int], now_ms: int) -> None:
    undelivered, pending, oldest_ms = stream
    age_ms = max(0, now_ms - oldest_ms) if oldest_ms else 0
    figure.undelivered = _sum(figure.undelivered, undelivered)
    figure.undelivered_at_least += undelivered if undelivered >= 0 else -1 - undelivered
    figure.pending += pending
    figure.age_ms = max(figure.age_ms, age_ms)
    if lane is not None:
        part = figure.lanes[lane]
        part.undelivered = _sum(part.undelivered, undelivered)
        part.pending += pending
        part.age_ms = max(part.age_ms, age_ms)


def _sum(known: int | None, more: int) -> int | None:
    return None if known is None or more < 0 else known + more


def worker_of(consumer: str) -> str:
    """The worker a consumer belongs to: its name without the lease's suffix."""
    return consumer.rpartition(".")[0] or consumer

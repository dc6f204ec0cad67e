"""Compares what a run left on the server with what its plan says it must have left. Pure: values in, a verdict out."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos.ledger.handlers import answer
from chaos.ledger.plan import BRANCHES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chaos.ledger.plan import Plan, Planned

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Joined:
    """One final record; `failed` names branches that gave up, as branch/part where it was a part that failed."""

    id: str
    is_complete: bool
    results: Mapping[str, Any]
    failed: frozenset[str]
    missing: frozenset[str]
    parts: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Ledger:
    """What was found on the server when all was quiet.

    `dead` are ids of dead letters by branch, `done` and `filtered` the counters of settled events by branch. `out` are
    ids of what was emitted, `order` the numbers emitted for each key, in the order they stand in their stream.
    """

    records: Sequence[Joined]
    dead: Mapping[str, Sequence[str]]
    done: Mapping[str, int]
    filtered: Mapping[str, int]
    counts: Mapping[str, int]
    values: Mapping[str, Any]
    out: Sequence[str]
    order: Mapping[str, Sequence[int]]
    open_joins: int = 0
    late: int = 0
    backlog: Mapping[str, int] = field(default_factory=dict)
    outboxed: int = 0


@dataclass
class Verdict:
    """How many faults of each kind, and a line for each of the first ones."""

    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    joins_wrong: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing was found."""
        return not (self.lost or self.doubled or self.misordered or self.joins_wrong)

    def note(self, kind: str, what: str, number: int = 1) -> None:
        """Counts faults; keeps the words of the first ones of a kind."""
        setattr(self, kind, getattr(self, kind) + number)
        if sum(each.startswith(kind) for each in self.faults) < SHOWN:
            self.faults.append(f"{kind}: {what}")


def verify(plan: Plan, found: Ledger) -> Verdict:
    """Everything that is not as planned."""
    verdict = Verdict()
    events = list(plan.handled())
    handled = [event.id for event in events]
    hopeless = [event.id for event in events if event.is_hopeless]
    skipped = sum(event.is_skipped for event in events)
    _once(verdict, "dead letter of plain", hopeless, found.dead.get("plain", ()))
    for branch in BRANCHES:
        given_up = {"plain": len(hopeless), "batching": skipped}.get(branch, 0)
        _total(verdict, f"settled by {branch}", len(handled) - given_up, found.done.get(branch, 0))
        left_out = skipped if branch == "batching" else 0
        _total(verdict, f"filtered out by {branch}", left_out, found.filtered.get(branch, 0))
        if branch != "plain":
            _once(verdict, f"dead letter of {branch}", (), found.dead.get(branch, ()))
        if found.backlog.get(branch):
            verdict.note("lost", f"{branch} has {found.backlog[branch]} unsettled", found.backlog[branch])
    if found.outboxed:
        verdict.note("lost", f"{found.outboxed} effects were never relayed", found.outboxed)
    _counters(verdict, plan, handled, len(handled) - skipped, found.counts)
    _once(verdict, "emitted by emitting", handled, found.out)
    _order(verdict, plan, found)
    _joins(verdict, plan, found)
    return verdict


def _once(verdict: Verdict, what: str, wanted: Iterable[str], found: Iterable[str]) -> None:
    """Each wanted id exactly once, and no other."""
    seen = Counter(found)
    for each in wanted:
        times = seen.pop(each, 0)
        if times == 0:
            verdict.note("lost", f"{each}: no {what}")
        elif times > 1:
            verdict.note("doubled", f"{each}: {times} times {what}", times - 1)
    for each, times in seen.items():
        verdict.note("doubled", f"{each}: {times} times {what}, and none was to be", times)


def _total(verdict: Verdict, what: str, wanted: int, found: int) -> None:
    if found < wanted:
        verdict.note("lost", f"{what}: {found} instead of {wanted}", wanted - found)
    elif found > wanted:
        verdict.note("doubled", f"{what}: {found} instead of {wanted}", found - wanted)


def _counters(
    verdict: Verdict, plan: Plan, handled: Sequence[str], batched: int, counts: Mapping[str, int]
) -> None:
    wanted = Counter({"all": len(handled), "batched": batched})
    wanted.update(f"event:{each}" for each in handled)
    wanted.update(f"key:{event.key}" for event in plan.published if event.key is not None)
    for name in wanted.keys() | counts.keys():
        _total(verdict, f"counter {name}", wanted[name], counts.get(name, 0))


def _order(verdict: Verdict, plan: Plan, found: Ledger) -> None:
    lengths = Counter(event.key for event in plan.published if event.key is not None)
    for key in lengths.keys() | found.order.keys():
        numbers, length = found.order.get(key, ()), lengths[key]
        names = [f"{key}#{number}" for number in range(1, length + 1)]
        _once(verdict, "line of ordered", names, [f"{key}#{number}" for number in numbers])
        firsts = list(dict.fromkeys(numbers))
        for before, after in itertools.pairwise(firsts):
            if after < before:
                verdict.note("misordered", f"{key}: {after} comes after {before}")
    for key, length in lengths.items():
        last = found.values.get(f"sequence:{key}")
        if last is None:
            verdict.note("lost", f"{key}: no last value of ordered")
        elif last != length:
            verdict.note("misordered", f"{key}: the last value of ordered is {last!r} and not {length}")
        last = found.values.get(f"last:{key}")
        if not isinstance(last, int) or not 1 <= last <= length:
            verdict.note("lost", f"{key}: the last value of counting is {last!r}, none of 1 to {length}")


def _joins(verdict: Verdict, plan: Plan, found: Ledger) -> None:
    records: dict[str, list[Joined]] = {}
    for record in found.records:
        records.setdefault(record.id, []).append(record)
    for root in plan.roots():
        here = records.pop(root.id, [])
        if len(here) != 1:
            verdict.note("joins_wrong", f"{root.id}: {len(here)} records")
        for record in here[:1]:
            wanted = record_of(root)
            if record != wanted:
                verdict.note("joins_wrong", f"{root.id}: {_difference(record, wanted)}")
    for stranger in records:
        verdict.note("joins_wrong", f"{stranger}: a record of an event that has no join of its own")
    if found.open_joins:
        verdict.note("joins_wrong", f"{found.open_joins} joins are open", found.open_joins)
    if found.late:
        verdict.note("joins_wrong", f"{found.late} outcomes came after their record", found.late)


def record_of(root: Planned) -> Joined:
    """The record that an event must have."""
    results = {branch: answer(branch, root.id) for branch in BRANCHES if _answers(branch, root)}
    parts = [part for part in root.whole() if part is not root]
    of_parts: dict[str, dict[str, Any]] = {}
    for branch in BRANCHES:
        if good := [part.id for part in parts if _answers(branch, part)]:
            of_parts[branch] = {part: answer(branch, part) for part in good}
    failed = {f"plain/{part.id}" for part in parts if part.is_hopeless}
    if root.is_hopeless:
        failed.add("plain")
    return Joined(root.id, not failed, results, frozenset(failed), frozenset(), of_parts)


def _answers(branch: str, event: Planned) -> bool:
    """Whether a branch has a result for an event: it neither gives it up nor filters it out."""
    return not ((branch == "plain" and event.is_hopeless) or (branch == "batching" and event.is_skipped))


def _difference(found: Joined, wanted: Joined) -> str:
    """The members of a record that are not as they are to be."""
    wrong = [
        f"{name} is {getattr(found, name)!r} and not {getattr(wanted, name)!r}"
        for name in Joined.__dataclass_fields__
        if getattr(found, name) != getattr(wanted, name)
    ]
    return "; ".join(wrong)

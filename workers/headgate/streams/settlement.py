"""The arguments of settle.lua: outcomes of one batch as the script reads them.

What is done without a trace is told as an entry id alone, by the stream it is pending in; every other outcome has
eleven values of its own and the effects after it (scripts/settle.lua).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.contract import Ordering
from headgate.streams.outcome import DONE, FILTERED, RETRY_STREAM, Delivery, Kind, Outcome, pack_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import BranchContract

_MAX_ERROR = 2000  # bytes of an error's text that are kept

Arguments = list[str | bytes | int]


class Settlement:
    """Packs outcomes of one branch."""

    def __init__(self, contract: BranchContract) -> None:
        join = contract.join
        self._group = contract.branch
        self._is_joined = join is not None and contract.branch in join.branches
        self._is_ordered = contract.ordering is Ordering.KEY
        self._join = _join(contract)

    def arguments(self, lease: str, outcomes: Sequence[Outcome]) -> Arguments:
        """What settles these under a lease."""
        done: tuple[list[bytes], ...] = ([], [], [], [])
        filtered: tuple[list[bytes], ...] = ([], [], [], [])
        rest: Arguments = []
        busy_us = 0
        is_joined, is_ordered = self._is_joined, self._is_ordered
        for outcome in outcomes:
            delivery = outcome.delivery
            busy_us += outcome.busy_us
            kind = outcome.kind
            if not (is_joined or outcome.effects or (is_ordered and delivery.stream == RETRY_STREAM)):
                if kind is DONE:
                    done[delivery.stream - 1].append(delivery.entry)
                    continue
                if kind is FILTERED:
                    filtered[delivery.stream - 1].append(delivery.entry)
                    continue
            event = delivery.event
            first, second = _particulars(outcome)
            rest += (kind, delivery.stream, delivery.entry, event.id, event.root or event.id)
            rest += (
                event.published_ms,
                event.type,
                event.key or "",
                first,
                second,
                len(outcome.effects) // 4,
            )
            rest += outcome.effects
        found: Arguments = [self._group, lease, busy_us, int(is_ordered), *self._join]
        for entries in (*done, *filtered):
            found.append(len(entries))
            found += entries
        return found + rest


def _join(contract: BranchContract) -> tuple[str | int, ...]:
    join = contract.join
    if join is None or contract.branch not in join.branches:
        return (0, 0, "", 0)
    output = f"{contract.namespace}/{join.output}" if join.output else ""
    return (join.timeout_seconds * 1000, join.needed, output, len(join.branches), *join.branches)


def _particulars(outcome: Outcome) -> tuple[bytes | int, bytes]:
    """The two values of an outcome's own that settle.lua takes."""
    delivery, event = outcome.delivery, outcome.delivery.event
    if outcome.kind is DONE:
        return outcome.detail, b""
    match outcome.kind:
        case Kind.FILTERED:
            return b"", b""
        case Kind.BACK | Kind.PARK:
            return pack_fields(delivery, event.attempt), b""
        case Kind.RETRY:
            # The origin keeps events alike in all else apart: members of the delay set are unique.
            origin = (b"origin", delivery.entry)
            return outcome.delay_ms, pack_fields(delivery, event.attempt + 1, origin)
        case _:
            return outcome.detail[:_MAX_ERROR], _pack_dead(delivery)


def _pack_dead(delivery: Delivery) -> bytes:
    attempts = delivery.event.attempt
    worker = (b"worker", delivery.lease.encode())
    return pack_fields(
        delivery, attempts, (b"attempts", b"%d" % attempts, b"origin", delivery.entry, *worker)
    )

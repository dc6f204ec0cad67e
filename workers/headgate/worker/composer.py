"""From what a handler returned to an outcome: the result as JSON, the effects as the settle script takes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headgate.effects import MOST_EFFECTS, Count, Emit, Put, Result, Split
from headgate.event import LANE_NUMBER, ROOT, SOURCE, encode_data, to_fields
from headgate.streams.keys import PipelineKeys
from headgate.streams.outcome import DEAD, DONE, Outcome, netstrings
from headgate.tracing import current_traceparent
from headgate.worker.failures import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.contract import BranchContract
    from headgate.effects import Effect
    from headgate.event import Event, NewEvent
    from headgate.streams.outcome import Delivery

_Values = list[str | bytes | int]


class Composer:
    """Composes the outcomes of one branch."""

    def __init__(self, contract: BranchContract, clock: Callable[[], float] = time.time) -> None:
        self._branch = contract.branch
        self._namespace = contract.namespace
        self._keys = PipelineKeys(contract.namespace, contract.pipeline, contract.partitions)
        self._source = f"/{contract.namespace}/{contract.pipeline}/{contract.branch}"
        self._is_joined = contract.join is not None and contract.branch in contract.join.branches
        self._clock = clock

    def done(self, delivery: Delivery, returned: Any) -> Outcome:
        """The outcome of a handler that returned; a dead letter when JSON or Redis cannot carry what it returned."""
        if returned is None:
            return Outcome(delivery, DONE)
        try:
            result = Result.of(returned)
            detail = encode_data(result.value)
        except Exception as error:  # noqa: BLE001 - a type, a number too long, a circle
            # No retry mends a result that is no JSON.
            return _hopeless(delivery, b"the handler's result is nothing JSON can carry: ", error)
        if not result.effects:
            return Outcome(delivery, DONE, detail)
        try:
            return Outcome(delivery, DONE, detail, effects=self._effects(delivery.event, result.effects))
        except Exception as error:  # noqa: BLE001 - as above
            return _hopeless(delivery, b"an effect of the handler cannot be applied: ", error)

    def batch_done(self, batch: Sequence[Delivery], returned: Any) -> list[Outcome]:
        """The outcomes of a batch whose handler returned None, or a list with a result or an exception an event."""
        if returned is None:
            return [Outcome(delivery, DONE) for delivery in batch]
        if not isinstance(returned, list | tuple) or len(returned) != len(batch):
            found = (
                f"{len(returned)} of them" if isinstance(returned, list | tuple) else type(returned).__name__
            )
            error = TypeError(
                f"a batch handler returns None or a list with one result or exception an event: {len(batch)}"
                f" events, but it returned {found}"
            )
            return [failure(delivery, error) for delivery in batch]
        return [
            failure(delivery, each) if isinstance(each, BaseException) else self.done(delivery, each)
            for delivery, each in zip(batch, returned, strict=True)
        ]

    def _effects(self, event: Event, effects: tuple[Effect, ...]) -> _Values:
        values: _Values = []
        for number, effect in enumerate(effects):
            if isinstance(effect, Count):
                values += ("count", effect.name.encode(), effect.n, "")
            elif isinstance(effect, Put):
                values += self._put(event, effect)
            elif isinstance(effect, Emit):
                values += self._emit(event, effect, number)
            else:
                values += self._split(event, effect, number)
        if len(values) > 4 * MOST_EFFECTS:
            raise ValueError(
                f"{len(values) // 4} effects; at most {MOST_EFFECTS}: split the work, or emit less"
            )
        return values

    def _put(self, event: Event, put: Put) -> _Values:
        homes = self._keys.homes_of(put.key)
        if put.value is not None and homes[-1] == event.partition:
            return ["put", put.key, encode_data(put.value), ""]
        kind, value = ("drop", b"") if put.value is None else ("put", encode_data(put.value))
        # Where partitions were added the key may have moved, and whether it is there yet the settle script knows.
        places = [b"%d" % number for number in homes]
        place = b"%d" % event.partition
        return ["place", f"{self._keys}", kind, netstrings([place, put.key.encode(), value, *places])]

    def _emit(self, event: Event, emit: Emit, number: int) -> _Values:
        new = emit.event
        new_id = new.id or f"{event.id}/{self._branch}/{number}"
        packed, lane = self._pack(event, new, new_id), LANE_NUMBER[new.lane]
        if emit.to is None:
            route = new.key if new.key is not None else new.id
            if route is None or self._keys.partition_of(route) == event.partition:
                return ["emit", lane, new_id, packed]
        target = self._target(emit.to)
        route = new.key if new.key is not None else new_id
        parts = [route.encode(), b"%d" % lane, new_id.encode(), packed]
        return ["out", target.encode(), "emit", netstrings(parts)]

    def _split(self, event: Event, split: Split, number: int) -> _Values:
        values: _Values = []
        root = (event.root or event.id).encode() if self._is_joined else None
        for at, new in enumerate(split.events):
            new_id = new.id or f"{event.id}/{self._branch}/{number}.{at}"
            extra = () if root is None else (ROOT, root)
            values += ("split", LANE_NUMBER[new.lane], new_id, self._pack(event, new, new_id, extra))
        return values

    def _pack(self, event: Event, new: NewEvent, new_id: str, extra: tuple[bytes, ...] = ()) -> bytes:
        traceparent = current_traceparent() or event.traceparent
        fields = to_fields(new, new_id, int(self._clock() * 1000), traceparent)
        if not new.source:
            fields += (SOURCE, self._source.encode())
        return netstrings([*fields, *extra])

    def _target(self, to: str | None) -> str:
        if to is None:
            return f"{self._keys}"
        namespace, slash, name = to.rpartition("/")
        if not name or "/" in namespace or "{" in to or "}" in to or ":" in to:
            raise ValueError(f"emit: {to!r} is no pipeline's name; give name or namespace/name")
        return f"{namespace if slash else self._namespace}/{name}"


def _hopeless(delivery: Delivery, what: bytes, error: Exception) -> Outcome:
    return Outcome(delivery, DEAD, what + str(error).encode(errors="backslashreplace"))

"""One call of a handler, as a worker would make it: the event it gets, and what it returned, by kind."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from headgate.contract import BranchContract
from headgate.effects import Count, Emit, Put, Result, Split
from headgate.event import Event, Lane, NewEvent, encode_data
from headgate.handlers.python import is_async
from headgate.streams.outcome import DEAD, Delivery
from headgate.values import read_values_by
from headgate.worker.composer import Composer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

_CONTRACT = BranchContract(namespace="default", pipeline="test", branch="test", function="test:test")


class EventFields(TypedDict, total=False):
    """What an event may have besides its data; see `headgate.Event`."""

    id: str
    type: str
    source: str
    key: str | None
    lane: Lane
    partition: int
    published_ms: int
    attempt: int
    traceparent: str | None
    root: str | None
    fencing_token: int


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler returned, with every value as JSON carries it: a tuple is a list, a date is a string.

    `value` is for the join, `counts` are sums by name, `puts` values by key (None: to be removed), `parts` what the
    event was split into. `error` is what one event of a batch failed with.
    """

    value: Any = None
    counts: dict[str, int] = {}
    puts: dict[str, Any] = {}
    emitted: tuple[Emit, ...] = ()
    parts: tuple[NewEvent, ...] = ()
    error: BaseException | None = None


async def handle(
    function: Callable[[Any], Any],
    data: Any = None,
    /,
    *,
    values: Mapping[str, Any] | None = None,
    **fields: Unpack[EventFields],
) -> Handled:
    """Calls a handler with one event; gives what it returned.

    `data` is the event's data, or a whole Event or NewEvent; `fields` are its other members, `values` what
    `headgate.value` reads. A plain function runs in a thread, as in a worker.

    Raises what the handler raises; TypeError for data that JSON cannot carry, ValueError for a result or an effect that
    would make the event a dead letter.
    """
    event = _event(data, fields, "test")
    return _handled(event, await _call(function, event, values))


async def handle_batch(
    function: Callable[[Any], Any],
    batch: Sequence[Any],
    /,
    *,
    values: Mapping[str, Any] | None = None,
    **fields: Unpack[EventFields],
) -> list[Handled]:
    """Calls a handler of a branch with `batch`; gives what it returned for each event, or its `error`.

    Each of `batch` is as the `data` of `handle`, `fields` are those of every event. Raises as `handle` does, and
    TypeError when the handler returned neither None nor as many results as there were events.
    """
    events = [_event(data, fields, f"test-{number}") for number, data in enumerate(batch, 1)]
    returned = await _call(function, events, values)
    if returned is None:
        return [Handled() for _ in events]
    if not isinstance(returned, list | tuple) or len(returned) != len(events):
        outcome = Composer(_CONTRACT).batch_done([_delivery(event) for event in events], returned)[0]
        raise TypeError(outcome.detail.decode().removeprefix("TypeError: "))
    return [
        Handled(error=each) if isinstance(each, BaseException) else _handled(event, each)
        for event, each in zip(events, returned, strict=True)
    ]


async def _call(
    function: Callable[[Any], Any], work: Event | list[Event], values: Mapping[str, Any] | None
) -> Any:
    """Calls it in a context of its own, where `headgate.value` reads `values`."""

    async def read(key: str) -> Any:
        return None if values is None or key not in values else _as_json(values[key])

    async def call() -> Any:
        returned = function(work) if is_async(function) else await asyncio.to_thread(function, work)
        # Some callables, such as mocks, are not seen to be async before they are called.
        return await returned if inspect.isawaitable(returned) else returned

    context = contextvars.copy_context()
    context.run(read_values_by, read)
    return await asyncio.create_task(call(), context=context)


def _event(data: Any, fields: EventFields, default_id: str) -> Event:
    if isinstance(data, Event):
        return msgspec.structs.replace(data, **fields)
    if not isinstance(data, NewEvent):
        data = NewEvent(data=data)
    event = Event(
        id=data.id or default_id,
        body=encode_data(data.data),
        type=data.type,
        source=data.source,
        key=data.key,
        lane=data.lane,
        published_ms=int(time.time() * 1000),
        traceparent=data.traceparent,
    )
    return msgspec.structs.replace(event, **fields)


def _handled(event: Event, returned: Any) -> Handled:
    outcome = Composer(_CONTRACT).done(_delivery(event), returned)
    if outcome.kind is DEAD:
        raise ValueError(outcome.detail.decode())
    counts: dict[str, int] = {}
    puts: dict[str, Any] = {}
    emitted: list[Emit] = []
    parts: list[NewEvent] = []
    for effect in Result.of(returned).effects:
        if isinstance(effect, Count):
            counts[effect.name] = counts.get(effect.name, 0) + effect.n
        elif isinstance(effect, Put):
            puts[effect.key] = _as_json(effect.value)
        elif isinstance(effect, Emit):
            emitted.append(effect)
        elif isinstance(effect, Split):
            parts += effect.events
    return Handled(
        value=msgspec.json.decode(outcome.detail),
        counts=counts,
        puts=puts,
        emitted=tuple(emitted),
        parts=tuple(parts),
    )


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(encode_data(value))


def _delivery(event: Event) -> Delivery:
    return Delivery(event, 2, b"0-1", "", 0.0)

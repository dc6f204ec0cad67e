"""The handlers of the ledger's five branches: each does what the event's data says, and nothing else.

An attempt fails when its number is not above what the plan says for the branch. A worker's death counts as an attempt
too, so what is planned is how many fail at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import NewEvent, PermanentError, count, emit, put, result, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate import Event

OUT, ORDER = "ledger-out", "ledger-order"
HOPELESS = "planned: there is no hope for it"


def answer(branch: str, event_id: str) -> str:
    """What a branch returns for an event, and so what the event's record must say."""
    return f"{branch} of {event_id}"


def fail_as_planned(branch: str, event: Event) -> None:
    """Raises where the plan wants this attempt to fail."""
    if event.attempt <= event.data.get("fails", {}).get(branch, 0):
        raise RuntimeError(f"planned: attempt {event.attempt} of {branch} fails")


async def plain(event: Event) -> Any:
    """Gives up a few events, splits others."""
    fail_as_planned("plain", event)
    if event.data.get("hopeless"):
        raise PermanentError(HOPELESS)
    parts = [NewEvent(lane=event.lane, **part) for part in event.data.get("parts", ())]
    return result(answer("plain", event.id), *([split(parts)] if parts else []))


async def counting(event: Event) -> Any:
    """Counts each event by itself, by its key and with all others; remembers the key's last."""
    fail_as_planned("counting", event)
    effects: list[Any] = [count("all"), count(f"event:{event.id}")]
    if event.key is not None:
        effects += (count(f"key:{event.key}"), put(f"last:{event.key}", event.data["sequence"]))
    return result(answer("counting", event.id), *effects)


async def emitting(event: Event) -> Any:
    """Emits one event into another pipeline, and for some a further one into its own."""
    fail_as_planned("emitting", event)
    effects = [emit(NewEvent(data={"of": event.id}), to=OUT)]
    if event.data.get("echoes"):
        effects.append(emit(NewEvent(id=f"{event.id}+echo", data={}, lane=event.lane)))
    return result(answer("emitting", event.id), *effects)


async def batching(events: Sequence[Event]) -> Any:
    """Takes many at once, and fails single ones of them."""

    def one(event: Event) -> Any:
        try:
            fail_as_planned("batching", event)
        except RuntimeError as error:
            return error
        return result(answer("batching", event.id), count("batched"))

    return [one(event) for event in events]


async def ordered(event: Event) -> Any:
    """Writes down the order of each key, in another pipeline and as the last value."""
    fail_as_planned("ordered", event)
    if event.key is None:
        return answer("ordered", event.id)
    line = {"key": event.key, "sequence": event.data["sequence"]}
    return result(
        answer("ordered", event.id),
        emit(NewEvent(data=line, key=event.key), to=ORDER),
        put(f"sequence:{event.key}", line["sequence"]),
    )

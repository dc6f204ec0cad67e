"""The benchmark's events: 200 bytes of JSON each."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from msgspec import structs

from headgate.event import NewEvent

if TYPE_CHECKING:
    from random import Random

DATA_BYTES = 200
_STRING_BYTES = DATA_BYTES - 2  # the quotes
_LETTERS = string.ascii_letters + string.digits


def random_event(random: Random) -> NewEvent:
    """An event whose data is a random string, 200 bytes as JSON; no id, so each is an event of its own."""
    return NewEvent(data="".join(random.choices(_LETTERS, k=_STRING_BYTES)))


def keyed_event(random: Random, keys: int) -> NewEvent:
    """An event like `random_event`, of one of `keys` keys."""
    return structs.replace(random_event(random), key=f"key-{random.randrange(keys)}")


def typed_event(kind: str) -> NewEvent:
    """An event whose data a filter can judge, 200 bytes as JSON."""
    head = len(f'{{"kind":"{kind}","padding":""}}')
    return NewEvent(data={"kind": kind, "padding": "x" * (DATA_BYTES - head)})


def published_at(due_ns: int) -> NewEvent:
    """An event that carries the time it was due, 200 bytes as JSON."""
    head = len(f'{{"due":"{due_ns}","padding":""}}')
    return NewEvent(data={"due": str(due_ns), "padding": "x" * (DATA_BYTES - head)})

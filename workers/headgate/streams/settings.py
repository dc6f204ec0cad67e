"""What a pipeline's manifest says of its source, as it lies on the server for publishers and sweeps.

The control plane writes it with the groups (`ensure_groups`), into the settings hash of every partition; who publishes
needs only the pipeline's name.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW, BEGINNING = "Now", "Beginning"
DEDUPE, SCHEMA, DURABILITY, RETENTION = "dedupeMs", "schema", "durability", "retention"
FIELDS: Final = (DEDUPE, SCHEMA, DURABILITY, RETENTION)


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The source of a pipeline.

    `schema` is the JSON Schema events are checked against (None: none). A publish waits until `replicas` have it, for
    at most `wait_seconds`. Events stay `keep_seconds` after every branch settled them, for replays; none stays longer
    than `max_age_seconds`, nor are there more than `max_events` in a lane of all partitions together, settled or not.
    """

    dedupe_window_seconds: float = 600
    schema: dict[str, Any] | bool | None = None
    replicas: int = 0
    wait_seconds: float = 1
    keep_seconds: int = 0
    max_age_seconds: int = 604800
    max_events: int = 1000000

    def to_fields(self) -> tuple[str, str, str, str]:
        """The values of FIELDS in the settings hash; an empty one is not stored."""
        return (
            str(int(self.dedupe_window_seconds * 1000)),
            "" if self.schema is None else msgspec.json.encode(self.schema).decode(),
            f"{self.replicas}:{int(self.wait_seconds * 1000)}" if self.replicas else "",
            f"{self.keep_seconds * 1000}:{self.max_age_seconds * 1000}:{self.max_events}",
        )

    @staticmethod
    def from_fields(fields: Sequence[bytes | None]) -> SourceSettings:
        """Reads the values of FIELDS; what is not stored is as if the manifest did not say it."""
        dedupe, schema, durability, retention = fields
        given: dict[str, Any] = {}
        if dedupe:
            given["dedupe_window_seconds"] = int(dedupe) / 1000
        if schema:
            given["schema"] = msgspec.json.decode(schema, type=dict[str, Any] | bool)
        if durability:
            replicas, wait_ms = durability.split(b":")
            given |= {"replicas": int(replicas), "wait_seconds": int(wait_ms) / 1000}
        if retention:
            keep_ms, age_ms, events = retention.split(b":")
            given |= {
                "keep_seconds": int(keep_ms) // 1000,
                "max_age_seconds": int(age_ms) // 1000,
                "max_events": int(events),
            }
        return SourceSettings(**given)


class BranchStart(msgspec.Struct, frozen=True):
    """A branch, and where it starts on a source that is older: Now, Beginning, or a time as RFC 3339 has it.

    On a source that no branch reads yet, Now is the first event: nothing published before is lost. A `paused` one takes
    nothing until it is paused no longer; one that is `ordered` takes nothing of a new partition before the old ones are
    through with what its keys have there.
    """

    name: str
    start_at: str = NOW
    paused: bool = False
    ordered: bool = False

    @property
    def position(self) -> str:
        """`now`, or the time in ms that it starts at; raises ValueError when `start_at` is none of the three."""
        if self.start_at == NOW:
            return "now"
        return str(0 if self.start_at == BEGINNING else time_ms(self.start_at))


class Removal(msgspec.Struct, frozen=True):
    """What becomes of branches that are no longer named: they go at once, or `drain` first.

    What drains takes the events published before it was removed, and none when it is `paused`.
    """

    drain: bool = False
    paused: bool = False


def time_ms(text: str) -> int:
    """Milliseconds since 1970 of a time as RFC 3339 has it; raises ValueError for anything else."""
    wrong = f"{text!r} is no time with a zone, such as 2026-11-21T10:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(wrong) from error
    if moment.tzinfo is None:
        raise ValueError(wrong)
    return int(moment.timestamp() * 1000)

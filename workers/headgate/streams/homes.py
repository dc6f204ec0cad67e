"""Where events belong while partitions are added, and where their ids were published before.

Old partitions learn one after the other that there are more. A key that will move stays where it is until its own
partition knows: that one takes its events until then, and no more after. So nobody waits for those that do not know.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from headgate.streams.script import SEEN
from headgate.streams.server import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.streams.keys import PipelineKeys
    from headgate.streams.server import Server

_SLACK_SECONDS = 60.0  # between the clocks of the server and of this machine; as scripts/grow.lua has it
_IDS_A_CALL = 100


class Seen(msgspec.Struct, frozen=True):
    """Where an id was published before: partition and entry."""

    partition: int
    entry: str


class MovedError(Exception):
    """A partition knows of more partitions by now: where events belong has to be asked again."""


class Homes:
    """How many partitions each partition knows of (`numbers`; none: all of all), and what the numbers were before.

    `grown` is what the settings hashes say of those within the dedupe window: `<partitions>:<ms when more were added>`,
    by commas.
    """

    def __init__(
        self, server: Server, grown: str, window_seconds: float, numbers: tuple[int, ...] = ()
    ) -> None:
        self._server = server
        self.numbers = numbers
        self._counts = sorted(set(numbers))
        until = window_seconds + _SLACK_SECONDS
        latest: dict[int, float] = {}
        for text in grown.split(",") if grown else ():
            count, at = text.split(":")
            latest[int(count)] = max(latest.get(int(count), 0), int(at) / 1000 + until)
        self._earlier = tuple(latest.items())

    def number(self, keys: PipelineKeys, partition: int) -> int:
        """How many partitions there are, as one of them knows it: what it takes events by."""
        return self.numbers[partition] if self.numbers else keys.partitions

    def home(self, keys: PipelineKeys, route: str) -> int:
        """The partition of a key or id: by the least number that the partition it gives knows itself.

        A partition knows of more later, never of less; and a key moves to new ones only. So of all publishers, whatever
        they read and when, those whose events are taken find the same one.
        """
        for count in self._counts[:-1]:
            number = keys.with_partitions(count).partition_of(route)
            if self.numbers[number] == count:
                return number
        return keys.partition_of(route)

    async def seen(self, keys: PipelineKeys, wanted: Sequence[tuple[str, str]]) -> dict[str, Seen]:
        """Those of the ids (with their routes: key or id) that were published where they belong no longer.

        Costs nothing once the dedupe window has passed. Raises MovedError, ServerUnavailableError.
        """
        now = time.time()
        counts = [count for count, until in self._earlier if until > now and count < keys.partitions]
        asked: dict[int, list[str]] = {}
        for event_id, route in wanted if counts else ():
            home = self.home(keys, route)
            for number in {keys.with_partitions(count).partition_of(route) for count in counts} - {home}:
                asked.setdefault(number, []).append(event_id)
        calls: list[Call] = []
        places: list[tuple[int, list[str]]] = []
        for number, ids in asked.items():
            partition = keys.partition(number)
            for start in range(0, len(ids), _IDS_A_CALL):
                some = ids[start : start + _IDS_A_CALL]
                names = (partition.settings, partition.dedupe(""))
                calls.append(Call(SEEN, names, (self.number(keys, number), *some)))
                places.append((number, some))
        found: dict[str, Seen] = {}
        for (number, ids), reply in zip(
            places, await self._server.run_all(calls) if calls else (), strict=True
        ):
            if isinstance(reply, Exception):
                raise reply
            if reply[0] < 0:
                raise MovedError
            found |= {
                event_id: Seen(number, entry.decode())
                for event_id, entry in zip(ids, reply[1:], strict=True)
                if entry
            }
        return found

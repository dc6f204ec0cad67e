"""Where ids were published before partitions were added: a publish of the same id must find its mark there."""

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
    """A partition still takes events of publishers that know less: what it says now may not hold in a moment."""


class Homes:
    """The numbers of partitions that a pipeline had within its dedupe window.

    `grown` is what the settings hash says of them: `<partitions>:<ms when more were added>`, by commas.
    """

    def __init__(self, server: Server, grown: str, window_seconds: float) -> None:
        self._server = server
        pairs = (text.split(":") for text in grown.split(",") if text)
        until = window_seconds + _SLACK_SECONDS
        self._earlier = tuple((int(count), int(at) / 1000 + until) for count, at in pairs)

    async def seen(self, keys: PipelineKeys, wanted: Sequence[tuple[str, str]]) -> dict[str, Seen]:
        """Those of the ids (with their routes: key or id) that were published where they belong no longer.

        Costs nothing once the dedupe window has passed. Raises MovedError, ServerUnavailableError.
        """
        now = time.time()
        counts = [count for count, until in self._earlier if until > now and count < keys.partitions]
        asked: dict[int, list[str]] = {}
        for event_id, route in wanted if counts else ():
            home = keys.partition_of(route)
            for number in {keys.with_partitions(count).partition_of(route) for count in counts} - {home}:
                asked.setdefault(number, []).append(event_id)
        calls: list[Call] = []
        places: list[tuple[int, list[str]]] = []
        for number, ids in asked.items():
            partition = keys.partition(number)
            for start in range(0, len(ids), _IDS_A_CALL):
                some = ids[start : start + _IDS_A_CALL]
                names = (partition.settings, partition.dedupe(""))
                calls.append(Call(SEEN, names, (keys.partitions, *some)))
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

"""Spans of a stream: what lies between two places is counted, for groups that are put there; their lag stays exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams.script import COUNT
from headgate.streams.server import Call, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = 2000  # entries a script call: some milliseconds of the server's time


async def count_entries(server: Server, spans: Sequence[tuple[str, str, str]]) -> list[int]:
    """How many entries there are in each span: a stream, the id to count after, the last id to count.

    Takes about a second for a few hundred thousand. Raises ServerUnavailableError.
    """
    counts = [0] * len(spans)
    after = [span[1] for span in spans]
    left = list(range(len(spans)))
    while left:
        calls = [Call(COUNT, (spans[place][0],), (after[place], spans[place][2], _PAGE)) for place in left]
        unfinished: list[int] = []
        for place, reply in zip(left, await server.run_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            counts[place] += reply[0]
            after[place] = reply[1].decode()
            if reply[0] == _PAGE:
                unfinished.append(place)
        left = unfinished
    return counts

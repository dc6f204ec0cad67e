"""Which dead letters an application means: the words that listing, giving again and removing them share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from headgate.streams import LetterFilter
from headgate.streams.replay import server_ms

if TYPE_CHECKING:
    from headgate.streams import PipelineKeys, Server


class Which(TypedDict, total=False):
    """Which dead letters: those that meet all that is given; all of them when nothing is.

    `error` is part of the error's text; `type` and `id` are the event's. `older` and `newer` say when it became a dead
    letter: before or after a time with a zone, or so long ago (a timedelta, by the server's clock).
    """

    error: str
    type: str
    id: str
    older: datetime | timedelta
    newer: datetime | timedelta


async def letter_filter(server: Server, keys: PipelineKeys, which: Which) -> LetterFilter:
    """The filter that these words make; asks the server for its time when it has to.

    Whatever could choose more than was meant is refused: TypeError for another word or what is of another type,
    ValueError for an empty `type` or `id` and for a time without a zone. Raises ServerUnavailableError.
    """
    if unknown := which.keys() - Which.__annotations__.keys():
        known = ", ".join(Which.__annotations__)
        raise TypeError(f"{', '.join(sorted(unknown))}: dead letters are chosen by {known}")
    times = which.get("newer"), which.get("older")
    now_ms = await server_ms(server, keys) if any(isinstance(each, timedelta) for each in times) else 0
    return LetterFilter(
        error=_text("error", which.get("error", "")),
        type=_not_empty("type", which["type"]) if "type" in which else "",
        id=_not_empty("id", which["id"]) if "id" in which else "",
        from_ms=_moment_ms("newer", which["newer"], now_ms) if "newer" in which else None,
        until_ms=_moment_ms("older", which["older"], now_ms) if "older" in which else None,
    )


def _text(word: str, given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{word}: {given!r} is no text")
    return given


def _not_empty(word: str, given: object) -> str:
    if not (text := _text(word, given)):
        raise ValueError(f"{word}: an empty text is no event's; leave it out to choose all")
    return text


def _moment_ms(word: str, given: object, now_ms: int) -> int:
    if isinstance(given, timedelta):
        return now_ms - given // timedelta(milliseconds=1)
    if not isinstance(given, datetime):
        raise TypeError(f"{word}: {given!r} is neither a timedelta nor a datetime")
    if given.tzinfo is None:
        raise ValueError(f"{word}: {given} has no zone; give it one, such as tzinfo=UTC")
    return int(given.timestamp() * 1000)

"""The fewest workers that a schedule asks for at a time: cron texts in, a number out; no clock.

An entry is in force from a start until the next end, both in its own time zone, however daylight saving moves them.
At the minute where both fall together it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = 5  # the library would take a sixth for seconds, which nobody expects in a manifest


class ScheduleError(ValueError):
    """A cron text or a time zone that is none; its message ends with what to write instead."""


@dataclass(frozen=True)
class Hours:
    """One entry of `spec.branches[].scale.schedule`."""

    start: str
    end: str
    timezone: str
    min: int


def fewest(schedule: tuple[Hours, ...], at: datetime) -> int:
    """The largest `min` of the entries in force at a time that knows its zone; 0 when none is.

    Raises ScheduleError.
    """
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    return max((hours.min for hours in schedule if _in_force(hours, minute)), default=0)


def check_cron(text: str) -> None:
    """Raises ScheduleError when a text is no cron expression of five fields, or names no time that ever comes."""
    remedy = 'write minute, hour, day of the month, month and day of the week, such as "0 8 * * 1-5"'
    if len(text.split()) != _FIELDS:
        raise ScheduleError(f"it has {len(text.split())} fields instead of {_FIELDS}; {remedy}")
    try:
        found = next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ScheduleError(f"{str(error)[:1].lower()}{str(error)[1:]}; {remedy}") from error
    if found is None:
        raise ScheduleError(f"no such time ever comes; {remedy}")


def check_timezone(name: str) -> None:
    """Raises ScheduleError when there is no time zone of that name."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ScheduleError("no such time zone; write an IANA name such as Europe/Berlin or UTC") from error


# A second's decisions, and those of the next minute, ask again what they asked before.
@lru_cache(maxsize=4096)
def _in_force(hours: Hours, minute: datetime) -> bool:
    began, ended = (_last(text, hours.timezone, minute) for text in (hours.start, hours.end))
    return began is not None and (ended is None or began > ended)


def _last(text: str, timezone: str, minute: datetime) -> datetime | None:
    """The last time at or before a minute that a cron text names; None when there was none in decades."""
    check_cron(text)
    check_timezone(timezone)
    after = (minute + timedelta(seconds=1)).astimezone(ZoneInfo(timezone))
    found = next(CronSim(text, after, reverse=True), None)
    return None if found is None else found.astimezone(UTC)

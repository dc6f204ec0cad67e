"""The laws of a schedule: hours in time zones, whatever daylight saving does, and refusals that say what to write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_operator.expressions import mistakes
from headgate_operator.schedule import Hours, ScheduleError, check_cron, check_timezone, fewest
from unit.pipelines import manifest

OFFICE = Hours("0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", 3)
NIGHT = Hours("0 22 * * *", "0 6 * * *", "America/New_York", 2)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        ("2026-11-23T07:59:59+01:00", 0),
        ("2026-11-23T08:00:00+01:00", 3),
        ("2026-11-23T17:59:59+01:00", 3),
        ("2026-11-23T18:00:00+01:00", 0),
        ("2026-11-21T12:00:00+01:00", 0),  # a Saturday
    ],
)
def test_an_entry_is_in_force_from_its_start_until_its_end(moment: str, wanted: int):
    assert fewest((OFFICE,), at(moment)) == wanted


def test_hours_are_those_of_the_time_zone_in_summer_too():
    assert fewest((OFFICE,), at("2026-07-20T05:59:00+00:00")) == 0
    assert fewest((OFFICE,), at("2026-07-20T06:00:00+00:00")) == 3


def test_a_night_in_which_clocks_change_begins_and_ends_by_the_clock_on_the_wall():
    begins, ends = at("2026-11-01T02:00:00+00:00"), at("2026-11-01T11:00:00+00:00")  # 22:00 EDT, 06:00 EST
    assert ends - begins == timedelta(hours=9)
    for moment, wanted in ((begins, 2), (ends, 0)):
        assert fewest((NIGHT,), moment) == wanted
        assert fewest((NIGHT,), moment - timedelta(minutes=1)) == 2 - wanted


def test_of_entries_in_force_together_the_largest_counts():
    more = Hours("0 9 * * *", "0 10 * * *", "Europe/Berlin", 7)
    less = Hours("0 9 * * *", "0 10 * * *", "Europe/Berlin", 1)
    assert fewest((OFFICE, more, less), at("2026-11-23T09:30:00+01:00")) == 7
    assert fewest((OFFICE, more, less), at("2026-11-23T10:00:00+01:00")) == 3
    assert fewest((), at("2026-11-23T10:00:00+01:00")) == 0


@given(
    start=st.integers(0, 23),
    end=st.integers(0, 23),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - UTC is added below
)
def test_a_daily_entry_is_in_force_in_its_hours_alone(start: int, end: int, moment: datetime):
    """Against the plain rule for hours of UTC, which has no daylight saving."""
    hour = moment.hour
    within = start <= hour < end if start < end else (hour >= start or hour < end) and start != end
    entry = Hours(f"0 {start} * * *", f"0 {end} * * *", "UTC", 4)
    assert fewest((entry,), moment.replace(tzinfo=UTC)) == (4 if within else 0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0 8 * *", "4 fields"),
        ("0 0 8 * * 1", "6 fields"),
        ("0 25 * * *", "bad hour"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("every day at 8", "4 fields"),
        ("0 8 * * MONDAY", "bad day-of-week"),
    ],
)
def test_what_is_no_cron_text_is_refused_with_what_to_write(text: str, what: str):
    with pytest.raises(ScheduleError, match=f"{what}.*such as"):
        check_cron(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../UTC", "/etc/passwd", "Europe", ""])
def test_what_is_no_time_zone_is_refused(name: str):
    with pytest.raises(ScheduleError, match="such as Europe/Berlin"):
        check_timezone(name)


def test_a_manifests_schedule_is_refused_with_field_value_and_remedy():
    entry = {"name": "office", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "min": 2}
    good = {"scale": {"schedule": [entry]}}
    assert mistakes(manifest(good)) == []
    wrong = entry | {"start": "0 88 * * *", "timezone": "Mars/Olympus"}
    found = mistakes(manifest({"scale": {"schedule": [entry, wrong]}}))
    fields = [mistake.field for mistake in found]
    assert fields == [
        "spec.branches[0].scale.schedule[1].start",
        "spec.branches[0].scale.schedule[1].timezone",
    ]
    assert '"0 88 * * *"' in str(found[0])
    assert "write minute, hour" in found[0].remedy
    assert "write an IANA name" in found[1].remedy


def test_an_entry_that_ends_when_it_starts_is_refused():
    same = {"name": "never", "start": "0 8 * * *", "end": "0  8 * * *", "min": 2}
    (found,) = mistakes(manifest({"scale": {"schedule": [same]}}))
    assert found.field.endswith("schedule[0].end")
    assert "ends when it starts" in str(found)

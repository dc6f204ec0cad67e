"""A burst of twice what the workers can do: Low waits while High flows, and in the end all is delivered."""

from __future__ import annotations

import statistics
import time

import msgspec

from cluster.kube import condition, wait_until
from headgate.event import Lane

WARM_UP = 12
BURST_SECONDS = 12
ONE_WORKER = {"min": 1, "max": 1}
# Of what the workers can do, High is half and Normal all: without Low they are already too much.
LANES = (Lane.LOW, Lane.NORMAL, Lane.HIGH, Lane.NORMAL)


def test_low_waits_while_high_flows_and_all_is_delivered(video, streams):
    video.apply(video.scaled(thumbnail=ONE_WORKER, transcode=ONE_WORKER, metadata=ONE_WORKER))
    capacity = _events_a_second(video, streams)
    events = video.uploads(max(24, round(2 * capacity * BURST_SECONDS)))
    events = [
        msgspec.structs.replace(event, lane=LANES[number % len(LANES)]) for number, event in enumerate(events)
    ]
    lane_of = {event.id: event.lane for event in events}
    levels, gates = set(), set()

    def look() -> None:
        status = video.read()["status"]
        levels.add(status["level"])
        gates.update(branch["gate"] for branch in status["branches"] if branch["name"] == "transcode")

    started = time.monotonic()
    for number, event in enumerate(events):
        due = started + number / (2 * capacity)
        if time.monotonic() < due - 0.5:
            look()
        time.sleep(max(0.0, due - time.monotonic()))
        streams.publish([event])

    def all_joined() -> bool:
        look()
        return streams.measure().joined >= WARM_UP + len(events)

    wait_until("all delivered", all_joined, 120, every=0.5)
    seconds = {lane: [] for lane in Lane}
    for record in streams.records():
        if record.id in lane_of:
            seconds[lane_of[record.id]].append((record.joined_ms - record.published_ms) / 1000)
    high, low = sorted(seconds[Lane.HIGH]), sorted(seconds[Lane.LOW])
    middle = {"High": statistics.median(high), "Low": statistics.median(low)}
    print(f"{capacity:.2f}/s, {len(events)} events; medians {middle}; worst {high[-1]}, {low[-1]} s")  # noqa: T201
    assert sum(map(len, seconds.values())) == len(events)
    assert high[-1] < statistics.median(low), "High waited for Low"
    assert "Delay" in levels
    assert "Delayed" in gates
    figures = streams.measure()
    assert all(branch.dead == 0 for branch in figures.branches.values())
    assert figures.partial == 0
    wait_until("the gate open again", lambda: condition(video.read(), "BackpressureActive") == "False", 20)


def _events_a_second(video, streams) -> float:
    """What one worker a branch can do."""
    events = video.uploads(WARM_UP)
    streams.publish(events)
    wait_until("the first uploads", lambda: streams.measure().joined >= WARM_UP, 60, every=0.1)
    records = sorted(streams.records(), key=lambda record: record.joined_ms)
    return (WARM_UP - 1) / ((records[-1].joined_ms - records[0].joined_ms) / 1000)

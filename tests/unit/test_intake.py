"""How many events a worker holds follows from how fast its handlers are."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Event
from headgate.streams.outcome import Delivery
from headgate.worker.intake import Intake


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(Event(id=str(n), body=b"0"), 2, b"%d-0" % n, "w.x", 0.0) for n in range(count)]


async def has_room(intake: Intake) -> bool:
    try:
        await asyncio.wait_for(intake.room(), 0.01)
    except TimeoutError:
        return False
    return True


async def test_slow_handlers_hold_one_event_each_and_take_the_next_as_soon_as_one_is_done():
    intake = Intake(concurrency=4, partitions=1)
    intake.observe(10.0)
    held = deliveries(4)
    intake.take(held)
    assert intake.free == 0
    assert not await has_room(intake)
    intake.give(held[:1])
    assert await intake.room() == 1


async def test_fast_handlers_read_again_when_a_quarter_of_what_is_ahead_is_done():
    intake = Intake(concurrency=4, partitions=1)
    intake.observe(1e-6)
    held = deliveries(intake.free)
    assert len(held) == 4 + 1000
    intake.take(held)
    intake.give(held[:250])
    assert not await has_room(intake)
    intake.give(held[250:251])
    assert await intake.room() == 251


@given(st.integers(1, 1000), st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_an_idle_worker_always_has_room_for_at_least_one_event_a_slot(concurrency: int, seconds: list[float]):
    intake = Intake(concurrency, partitions=1)
    for each in seconds:
        intake.observe(each)
    assert intake.free >= concurrency
    assert asyncio.run(has_room(intake))


@given(st.integers(1, 1000), st.lists(st.floats(0, 1e6), max_size=30))
def test_no_worker_holds_more_than_a_thousand_events_ahead_of_its_slots(
    concurrency: int, means: list[float]
) -> None:
    intake = Intake(concurrency, 1)
    for mean in means:
        intake.observe(mean)
        assert concurrency <= intake.free <= concurrency + 1000


@given(st.lists(st.integers(1, 20), max_size=20))
def test_what_is_taken_and_given_back_is_counted(sizes: list[int]) -> None:
    intake = Intake(4, 1)
    events = deliveries(sum(sizes))
    batches = [[events.pop() for _ in range(size)] for size in sizes]
    for number, batch in enumerate(batches, 1):
        intake.take(batch)
        assert intake.held == sum(sizes[:number])
        assert intake.free == max(0, 4 - intake.held)
    for batch in batches:
        intake.give(batch)
    assert (intake.held, intake.free) == (0, 4)
    assert not intake.known[0]


def test_what_is_held_under_a_lost_lease_goes_on_under_the_one_it_was_claimed_with() -> None:
    intake = Intake(8, 1)
    held, claimed = deliveries(2), deliveries(4)
    intake.take(held)
    for delivery in claimed:
        delivery.lease = "w.new"
    assert intake.adopt(claimed) == claimed[2:]
    assert [delivery.lease for delivery in held] == ["w.new", "w.new"]
    assert intake.held == 2


async def test_while_a_filter_lets_few_through_more_is_read_and_no_more_as_soon_as_many_pass() -> None:
    intake = Intake(concurrency=4, partitions=1)
    intake.observe(10.0)
    for _ in range(100):
        intake.sifted(100, 0)
    assert await intake.room() == 4 * 16
    assert intake.free == 4, "what is claimed from the dead had passed the filter before"
    intake.sifted(64, 64)
    assert await intake.room() == 4
    for _ in range(100):
        intake.sifted(100, 50)
    assert await intake.room() in {7, 8}

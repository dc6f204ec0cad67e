"""How much a worker holds."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Event
from headgate.streams.outcome import Delivery
from headgate.worker.intake import Intake


def deliveries(count: int, lease: str = "w.x", first: int = 0) -> list[Delivery]:
    return [
        Delivery(Event(id=str(n), body=b"1"), 2, b"%d-0" % n, lease, 0.0) for n in range(first, first + count)
    ]


@given(st.integers(1, 1000), st.lists(st.floats(0, 1e6), max_size=30))
def test_there_is_always_room_for_every_slot_and_never_for_more_than_a_thousand_ahead(
    concurrency: int, means: list[float]
) -> None:
    intake = Intake(concurrency, 1)
    for mean in means:
        intake.observe(mean)
        assert concurrency <= intake.free <= concurrency + 1000


@given(st.integers(1, 50))
def test_slow_handlers_leave_the_rest_to_idle_neighbours(concurrency: int) -> None:
    intake = Intake(concurrency, 1)
    for _ in range(50):
        intake.observe(10.0)
    assert intake.free == concurrency


def test_fast_handlers_never_wait_for_the_network() -> None:
    intake = Intake(8, 1)
    for _ in range(50):
        intake.observe(0.0001)
    assert intake.free > 100


@given(st.lists(st.integers(1, 20), max_size=20))
def test_what_is_taken_and_given_back_is_counted(sizes: list[int]) -> None:
    intake = Intake(4, 1)
    taken: list[list[Delivery]] = []
    for size in sizes:
        batch = deliveries(size, first=sum(map(len, taken)))
        intake.take(batch)
        taken.append(batch)
        assert intake.held == sum(map(len, taken))
        assert intake.free == max(0, 4 - intake.held)
    for batch in taken:
        intake.give(batch)
    assert intake.held == 0
    assert intake.free == 4
    assert not intake.known[0]


async def test_a_full_worker_waits_until_something_is_given_back() -> None:
    intake = Intake(2, 1)
    first, second = deliveries(2)
    intake.take([first, second])
    waiting = asyncio.ensure_future(intake.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    intake.give([first])
    assert await asyncio.wait_for(waiting, 5) == 1


async def test_a_full_worker_whose_handlers_turn_out_fast_waits_no_more() -> None:
    intake = Intake(2, 1)
    intake.take(deliveries(2))
    waiting = asyncio.ensure_future(intake.room())
    await asyncio.sleep(0)
    intake.observe(0.001)
    assert await asyncio.wait_for(waiting, 5) > 0


def test_what_is_held_under_a_lost_lease_goes_on_under_the_one_it_was_claimed_with() -> None:
    intake = Intake(8, 1)
    held = deliveries(2, "w.old")
    intake.take(held)
    claimed = deliveries(4, "w.new")
    assert intake.adopt(claimed) == claimed[2:]
    assert [delivery.lease for delivery in held] == ["w.new", "w.new"]
    assert intake.held == 2

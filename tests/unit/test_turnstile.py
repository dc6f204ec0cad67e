"""Who waits for a turn, and in which order turns are given."""

from __future__ import annotations

import asyncio

from headgate_operator.turnstile import Turnstile, place


async def come(turnstile: Turnstile, name: str, at: float, seen: list[str], turns: int = 1) -> None:
    place.set(at)
    for _ in range(turns):
        async with turnstile.turn():
            seen.append(name)
            await asyncio.sleep(0)


async def test_who_began_first_is_through_first_though_all_ask_in_turns():
    turnstile, seen = Turnstile(1), list[str]()
    names = ["first", "second", "third"]
    await asyncio.gather(*(come(turnstile, name, at, seen, 3) for at, name in enumerate(names, 1)))
    assert sorted(seen.index(name) for name in names) == [seen.index(name) for name in names]
    last = [len(seen) - seen[::-1].index(name) for name in names]
    assert last == sorted(last), "whoever began first is through first"
    assert last[0] < 7, "and does not wait for all the others"


async def test_one_without_a_place_goes_before_all_who_have_one():
    turnstile, seen = Turnstile(1), list[str]()
    async with turnstile.turn():
        tasks = [asyncio.create_task(come(turnstile, "a pass", 1.0, seen)) for _ in range(3)]
        tasks.append(asyncio.create_task(come(turnstile, "a renewal", 0.0, seen)))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert seen[0] == "a renewal"


async def test_no_more_than_its_places_are_in_at_once_and_no_place_is_lost_by_who_gives_up():
    turnstile, inside, most = Turnstile(3), 0, 0

    async def work(number: int) -> None:
        nonlocal inside, most
        place.set(float(number))
        async with turnstile.turn():
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(0.001)
            finally:
                inside -= 1

    tasks = [asyncio.create_task(work(number)) for number in range(60)]
    await asyncio.sleep(0)
    for number, task in enumerate(tasks):
        if number % 4 == 0:
            task.cancel()
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    async with asyncio.timeout(5):
        await asyncio.gather(*(come(turnstile, "again", 0.0, []) for _ in range(10)))
    assert turnstile._free == 3


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_it_on():
    turnstile = Turnstile(1)
    waiting = []
    async with turnstile.turn():
        waiting = [asyncio.create_task(come(turnstile, str(number), 1.0, [])) for number in range(2)]
        await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting, return_exceptions=True)
    assert turnstile._free == 1

"""A real worker with a filter and a schema: what is handled, what is left, and what becomes a dead letter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate.contract import RetryContract, RetryRule
from headgate.event import NewEvent
from headgate.streams import Server, read_dead_letters
from streams.desk import QUICK, desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = {"type": "object", "required": ["do"], "properties": {"do": {"type": "string"}}}
WANTED = 'event.type == "wanted" || event.data.wanted'


async def test_a_branch_handles_what_its_filter_wants_and_settles_the_rest(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server, partitions=2) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(filter=WANTED, schema=SCHEMA, retry=QUICK))
            await canal.publish(
                *(NewEvent(id=f"yes{n}", type="wanted", data={"do": "return"}) for n in range(20)),
                *(NewEvent(id=f"no{n}", data={"do": "return", "wanted": False}) for n in range(20)),
                NewEvent(id="again", data={"do": "fail-once", "wanted": True}),
            )
            figures = await canal.settled(events=21)
            began = workers.count("begin")
        letters = await read_dead_letters(server, canal.keys, "a")
        assert (figures.done, figures.dead, figures.filtered) == (21, 0, 20)
    assert began == {f"yes{n}": 1 for n in range(20)} | {"again": 2}
    assert letters == []


async def test_filtering_is_fast_and_does_not_make_a_slow_worker_hoard(
    valkey_url: str, tmp_path: Path
) -> None:
    server = Server.connect(valkey_url)
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(filter=WANTED, concurrency=1))
            await canal.publish(*(NewEvent(data={"do": "return", "wanted": False}) for _ in range(2000)))
            figures = await canal.settled()
            assert figures.filtered == 2000
            await canal.publish(*(NewEvent(type="wanted", data={"do": "hold"}) for _ in range(200)))
            workers.wait(lambda: workers.effects("begin"), "the first handler")
            held = (await canal.measured()).branches["a"].pending
            workers.release()
            await canal.settled(events=200)
    await server.aclose()
    assert held is not None
    assert held <= 16, "the rest is for idle neighbours"


async def test_what_is_filtered_out_does_not_count_against_the_rate_limit(
    valkey_url: str, tmp_path: Path
) -> None:
    server = Server.connect(valkey_url)
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            workers.start(canal.contract(filter=WANTED, rate_limit=5))
            began = time.monotonic()
            await canal.publish(*(NewEvent(data={"do": "return", "wanted": False}) for _ in range(300)))
            figures = await canal.settled()
            assert figures.filtered == 300
            assert time.monotonic() - began < 30, "at 5 a second it would take 60"
            await canal.publish(*(NewEvent(type="wanted", data={"do": "return"}) for _ in range(15)))
            began = time.monotonic()
            await canal.settled(events=15)
            assert time.monotonic() - began > 1, "what is handled counts"
    await server.aclose()


async def test_what_cannot_be_judged_is_a_dead_letter_at_once_with_the_reason(
    server: Server, tmp_path: Path
) -> None:
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            await canal.xadd({"data": '{"do": 1}', "id": "by-hand"})
            await canal.xadd({"data": '{"do": "return"}', "id": "no-key"})
            await canal.xadd({"data": "{no json", "id": "no-json"})
            worker = workers.start(canal.contract(filter=WANTED, schema=SCHEMA, retry=QUICK))
            figures = await canal.settled(events=3)
            assert workers.effects() == []
            assert worker.said("event.retried") == 0
        said = {letter.id: letter for letter in await read_dead_letters(server, canal.keys, "a")}
    assert (figures.dead, figures.retried) == (3, 0)
    assert said["by-hand"].error.startswith('data.do: 1 is not of type "string" (by the source\'s schema')
    assert said["no-key"].error.startswith("filter: event.data.wanted: no such key; guard it with has(")
    assert "not JSON" in said["no-json"].error
    assert {letter.attempts for letter in said.values()} == {1}


async def test_an_error_that_a_rule_calls_hopeless_is_a_dead_letter_at_its_first_attempt(
    valkey_url: str, tmp_path: Path
) -> None:
    rules = (RetryRule(match="second", retryable=True), RetryRule(match="^RuntimeError: attempt 1"))
    server = Server.connect(valkey_url)
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            retry = RetryContract(max_attempts=3, initial_seconds=0.05, max_seconds=0.05, rules=rules)
            workers.start(canal.contract(retry=retry))
            await canal.publish(NewEvent(id="hopeless", data={"do": "fail"}))
            figures = await canal.settled(events=1)
            assert workers.count("begin") == {"hopeless": 1}
        (letter,) = await read_dead_letters(server, canal.keys, "a")
    await server.aclose()
    assert (figures.dead, figures.retried, letter.attempts) == (1, 0, 1)


async def test_settings_a_worker_cannot_compile_end_it_with_2_and_a_reason(
    valkey_url: str, tmp_path: Path
) -> None:
    server = Server.connect(valkey_url)
    async with desk(server) as canal:
        with workers_in(tmp_path, server.url) as workers:
            for settings, reason in (
                ({"filter": "event.typ == 'a'"}, "has no member 'typ'"),
                ({"schema": {"type": "nothing"}}, "schema.type"),
                ({"retry": RetryContract(rules=(RetryRule(match="("),))}, "rules[0].match"),
            ):
                worker = workers.start(canal.contract(**settings), wait_for="worker.cannot_load")
                assert worker.wait_ended() == 2
                assert reason in worker.log()
    await server.aclose()

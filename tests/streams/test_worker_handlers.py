"""A real worker: what handlers may be, and what they may do."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import Executor, RetryContract
from headgate.event import Lane, NewEvent
from headgate.streams import Server, read_dead_letters
from streams.desk import QUICK, Desk, desk
from streams.workers import workers_in

if TYPE_CHECKING:
    from pathlib import Path

FORMS: dict[str, dict[str, Any]] = {
    "async": {"function": "streams.effects:act"},
    "threads": {"function": "streams.effects:act_plain", "executor": Executor.THREADS},
    "processes": {"function": "streams.effects:act_plain", "executor": Executor.PROCESSES},
}
every_form = pytest.mark.parametrize("form", FORMS)
plain_forms = pytest.mark.parametrize("form", ["threads", "processes"])


@pytest.fixture
async def valkey(valkey_url: str):
    server = Server.connect(valkey_url)
    yield server
    await server.aclose()


async def errors(canal: Desk) -> dict[str, str]:
    return {letter.id: letter.error for letter in await read_dead_letters(canal.server, canal.keys, "a")}


@every_form
async def test_a_handler_of_every_form_gets_each_event_once_and_may_fail_and_give_up(
    valkey: Server, tmp_path: Path, form: str
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(retry=QUICK, concurrency=4, **FORMS[form]))
            await canal.publish(
                *(NewEvent(id=f"good{n}", data={"do": "return", "result": n}) for n in range(30))
            )
            wishes = ("fail", "fail-once", "permanent", "system-exit", "no-json", "no-pickle")
            await canal.publish(*(NewEvent(id=wish, data={"do": wish}) for wish in wishes))
            figures = await canal.settled(events=36)
            began, ended = workers.count("begin"), workers.count("end")
        dead = await errors(canal)
    for n in range(30):
        assert (began[f"good{n}"], ended[f"good{n}"]) == (1, 1)
    assert (figures.done, figures.dead) == (32, 4)
    assert (began["fail"], began["fail-once"], began["system-exit"]) == (3, 2, 2)
    assert began["permanent"] == 1
    assert began["no-json"] == began["no-pickle"] == 1, "no retry mends a result that is no JSON"
    assert dead["fail"] == "RuntimeError: attempt 3 failed"
    assert dead["permanent"] == "never"
    assert "result" in dead["no-json"]
    assert "result" in dead["no-pickle"]


@every_form
async def test_data_that_is_no_json_and_entries_that_are_no_events_are_dead_letters_at_once(
    valkey: Server, tmp_path: Path, form: str
) -> None:
    async with desk(valkey) as canal:
        await canal.xadd({"data": "{no json", "id": "no-json"})
        await canal.xadd({"payload": "1"})
        await canal.xadd({"data": '{"do": "return"}', "id": "far-future", "time": "9" * 400})
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(**FORMS[form]))
            await canal.publish(NewEvent(id="good", data={"do": "return"}))
            figures = await canal.settled(events=4)
            assert workers.count("begin")["no-json"] == 1
            assert workers.count("end")["good"] == 1
        said = await errors(canal)
    assert figures.retried == 0
    assert "not JSON" in said["no-json"]
    assert any("data" in error for name, error in said.items() if name.startswith("normal-"))


@every_form
async def test_as_many_events_as_the_concurrency_run_at_once_and_no_more(
    valkey: Server, tmp_path: Path, form: str
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(concurrency=3, **FORMS[form]))
            await canal.publish(*[{"do": "hold"}] * 7)
            workers.wait(lambda: len(workers.effects("begin")) >= 3, "three handlers")
            # What is published now is settled only by a fourth slot, were there one.
            await canal.publish(NewEvent(data={"do": "return"}, lane=Lane.HIGH))
            assert len(workers.effects("begin")) == 3
            workers.release()
            await canal.settled(events=8)
            running = most = 0
            for effect in workers.effects():
                running += 1 if effect.what == "begin" else -1
                most = max(most, running)
    assert most == 3


async def test_an_async_handler_out_of_time_is_cancelled_and_tried_again(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(timeout_seconds=0.3, retry=QUICK))
            await canal.publish(
                NewEvent(id="once", data={"do": "hang-once"}), NewEvent(id="always", data={"do": "hang"})
            )
            figures = await canal.settled(events=2)
            assert workers.count("cancelled") == {"once": 1}
            assert workers.count("begin") == {"once": 2, "always": 3}
        said = await errors(canal)
    assert (figures.done, figures.dead, figures.retried) == (1, 1, 3)
    assert said == {"always": "timed out after 0.3 s"}


async def test_a_process_out_of_time_is_killed_and_its_slot_goes_on(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(
                canal.contract(timeout_seconds=1.5, concurrency=1, retry=QUICK, **FORMS["processes"])
            )
            await canal.publish(NewEvent(id="once", data={"do": "hang-once"}))
            await canal.publish(*(NewEvent(id=f"good{n}", data={"do": "return"}) for n in range(3)))
            figures = await canal.settled(events=4)
            first, *rest = [effect.pid for effect in workers.effects("begin")]
            workers.wait(lambda: not is_running(first), "the hung process's end")
    assert figures.done == 4
    assert first not in rest


async def test_a_hung_thread_does_not_take_its_slot_with_it(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(
                canal.contract(timeout_seconds=0.3, concurrency=1, retry=QUICK, **FORMS["threads"])
            )
            await canal.publish(NewEvent(id="once", data={"do": "hang-once"}))
            await canal.publish(*(NewEvent(id=f"good{n}", data={"do": "return"}) for n in range(3)))
            figures = await canal.settled(events=4)
            assert (figures.done, figures.retried) == (4, 1)
            worker.terminate()
            assert worker.wait_ended(10) == 0, "nor does it keep the worker from ending"


async def test_a_process_that_dies_is_a_failed_attempt_and_says_how(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract(concurrency=2, retry=QUICK, **FORMS["processes"]))
            await canal.publish(NewEvent(id="exit", data={"do": "exit"}))
            await canal.publish(*(NewEvent(id=f"good{n}", data={"do": "return"}) for n in range(10)))
            figures = await canal.settled(events=11)
            assert "the handler's process ended with exit code 3" in worker.log()
            assert workers.count("begin") == {"exit": 2} | {f"good{n}": 1 for n in range(10)}
    assert (figures.done, figures.retried) == (11, 1)


@pytest.mark.parametrize(
    ("form", "wish"),
    [("async", "await-cancelled"), ("async", "swallow-cancel"), ("threads", "next-of-nothing")],
)
async def test_no_handler_takes_its_slot_with_it(
    valkey: Server, tmp_path: Path, form: str, wish: str
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(
                canal.contract(concurrency=1, timeout_seconds=2, retry=QUICK, **FORMS[form])
            )
            for n in range(2):
                await canal.publish(NewEvent(id=f"odd{n}", data={"do": wish}))
                await canal.publish(NewEvent(id=f"good{n}", data={"do": "return"}))
            figures = await canal.settled(events=4)
            assert "timed out" not in worker.log()
            worker.terminate()
            assert worker.wait_ended() == 0
            assert "Traceback" not in worker.log()
    assert figures.done == 4


async def test_an_object_with_an_async_call_is_a_handler(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(function="streams.effects:callable_object"))
            await canal.publish({"do": "return"})
            assert (await canal.settled(events=1)).done == 1


async def test_a_function_that_cannot_be_loaded_ends_the_worker_with_2_and_a_reason(
    valkey: Server, tmp_path: Path
) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            for function, reason in (
                ("nowhere:act", "importing 'nowhere' failed"),
                ("streams.effects:missing", "has no 'missing'"),
            ):
                with pytest.raises(AssertionError, match="ended with 2") as ended:
                    workers.start(canal.contract(function=function))
                assert reason in str(ended.value)


async def test_the_least_attempts_are_one(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(retry=RetryContract(max_attempts=1)))
            await canal.publish({"do": "fail-once"})
            figures = await canal.settled(events=1)
    assert (figures.dead, figures.retried) == (1, 0)


async def test_retries_are_given_by_their_own_attempts(valkey: Server, tmp_path: Path) -> None:
    retry = RetryContract(max_attempts=5, initial_seconds=0.02, factor=2, max_seconds=0.1)
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            workers.start(canal.contract(retry=retry))
            await canal.publish(NewEvent(id="i", data={"do": "fail"}, lane=Lane.LOW))
            await canal.settled(events=1)
            began = workers.effects("begin")
        (letter,) = await read_dead_letters(valkey, canal.keys, "a")
    assert [effect.attempt for effect in began] == [1, 2, 3, 4, 5]
    assert Counter(effect.lane for effect in began) == {"low": 5}
    assert letter.attempts == 5


async def test_a_worker_says_over_http_what_it_does(valkey: Server, tmp_path: Path) -> None:
    async with desk(valkey) as canal:
        with workers_in(tmp_path, valkey.url) as workers:
            worker = workers.start(canal.contract(retry=QUICK))
            await canal.publish({"do": "return"}, {"do": "fail"}, {"do": "hold"})
            workers.wait(lambda: worker.said("dead_lettered"), "the dead letter")

            def get(path: str) -> tuple[int, str]:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}") as answer:
                        return answer.status, answer.read().decode()
                except urllib.error.HTTPError as error:
                    with error:
                        return error.code, error.read().decode()

            labels = r'branch="a",namespace="test",outcome="%s",pipeline="canal"'
            for outcome, count in (("done", 1), ("dead", 1), ("retried", 2)):
                line = re.compile(rf"headgate_worker_events_total\{{{labels % outcome}\}} {count}\.0")
                workers.wait(lambda line=line: line.search(get("/metrics")[1]), f"{outcome} {count}")
            assert re.search(r"headgate_worker_in_flight_events\{.*\} 1\.0", get("/metrics")[1])
            assert get("/healthz")[0] == 200
            assert get("/readyz")[0] == 200
            assert get("/other")[0] == 404
            worker.terminate()
            worker.wait_for("worker.draining")
            workers.wait(lambda: get("/readyz")[0] == 503, "not ready while it drains")
            workers.release()
            assert worker.wait_ended() == 0


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - no path to build
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""Loading a handler."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BranchContract, Executor
from headgate.errors import PermanentError, RetryLaterError, TargetGoneError
from headgate.event import Event
from headgate.handlers import HandlerLoadError, RemoteError, load_handler
from headgate.handlers.python import LoopHandler, ProcessHandler, ThreadHandler, load_function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.handlers import Handler


async def on_loop(event: Any) -> Any:
    return event


def plain(event: Any) -> Any:
    return event


class OnLoop:
    async def __call__(self, event: Any) -> Any:
        return event


class Plain:
    def __call__(self, event: Any) -> Any:
        return event


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("handlers_of_tests")
    members = {"on_loop": on_loop, "plain": plain, "OnLoop": OnLoop(), "Plain": Plain(), "number": 1}
    made.__dict__.update(members, inner=SimpleNamespace(plain=plain))
    monkeypatch.setitem(sys.modules, made.__name__, made)


def load(name: str, executor: Executor = Executor.THREADS) -> Handler:
    return load_handler(
        BranchContract(
            namespace="n",
            pipeline="p",
            branch="b",
            function=f"handlers_of_tests:{name}",
            executor=executor,
            concurrency=1,
        )
    )


@pytest.mark.parametrize("executor", Executor)
@pytest.mark.parametrize("name", ["on_loop", "OnLoop"])
def test_what_is_async_runs_on_the_loop_whatever_the_executor(name: str, executor: Executor) -> None:
    assert isinstance(load(name, executor), LoopHandler)


@pytest.mark.parametrize("name", ["plain", "Plain", "inner.plain"])
@pytest.mark.parametrize(
    ("executor", "kind"), [(Executor.THREADS, ThreadHandler), (Executor.PROCESSES, ProcessHandler)]
)
def test_what_is_plain_runs_where_the_executor_says(name: str, executor: Executor, kind: type) -> None:
    handler = load(name, executor)
    assert isinstance(handler, kind)
    handler.close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "not of the form"),
        ("module", "not of the form"),
        (":function", "not of the form"),
        ("module:", "not of the form"),
        ("no_such_module_here:f", "importing 'no_such_module_here' failed"),
        ("handlers_of_tests:missing", "has no 'missing'"),
        ("handlers_of_tests:inner.missing", "has no 'inner.missing'"),
        ("handlers_of_tests:number", "a int cannot be called"),
    ],
)
def test_a_path_that_leads_nowhere_says_which_half_is_wrong(path: str, reason: str) -> None:
    with pytest.raises(HandlerLoadError, match=reason):
        load_function(path)


def raise_as_told(work: Any) -> Any:
    if isinstance(work, list):
        return [failure_of(each) or each.data for each in work]
    raise failure_of(work) or AssertionError


def failure_of(event: Event) -> Exception | None:
    return {
        "permanent": PermanentError("never"),
        "later": RetryLaterError("busy", 7.5),
        "gone": TargetGoneError("moved"),
        "own": OwnError("mine", 1),
        "unspeakable": UnspeakableError(),
    }.get(event.data)


class OwnError(Exception):
    """One that cannot be unpickled, as so many."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def batch() -> list[Event]:
    said = ("good", "permanent", "later", "gone", "own", "unspeakable")
    return [Event(id=str(number), body=b'"%b"' % each.encode()) for number, each in enumerate(said)]


@pytest.fixture
def in_processes() -> Iterator[ProcessHandler]:
    # A child imports its handler anew: it must find this module by name.
    handler = ProcessHandler("unit.test_handlers:raise_as_told", 1)
    yield handler
    handler.close()


async def test_every_form_takes_a_batch_as_a_list(in_processes: ProcessHandler) -> None:
    async def count(events: Any) -> Any:
        assert isinstance(events, list)
        return len(events)

    assert await LoopHandler(count).handle_batch(0, tuple(batch())) == 6
    threads = ThreadHandler(raise_as_told, 1)
    for handler in (threads, in_processes):
        results = await handler.handle_batch(0, tuple(batch()))
        assert results[0] == "good"
        assert [isinstance(each, Exception) for each in results] == [False] + [True] * 5
    threads.close()


async def test_what_single_events_of_a_batch_failed_with_comes_out_of_a_process(
    in_processes: ProcessHandler,
) -> None:
    _, permanent, later, gone, own, unspeakable = await in_processes.handle_batch(0, batch())
    assert (type(permanent), str(permanent)) == (PermanentError, "never")
    assert (type(later), str(later), later.seconds) == (RetryLaterError, "busy", 7.5)
    assert (type(gone), str(gone)) == (TargetGoneError, "moved")
    assert (type(own), str(own)) == (RemoteError, "OwnError: mine")
    assert (type(unspeakable), str(unspeakable)) == (RemoteError, "UnspeakableError: ")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (1, PermanentError, "never"),
        (2, RetryLaterError, "busy"),
        (3, TargetGoneError, "moved"),
        (4, RemoteError, "OwnError: mine"),
        (5, RemoteError, "UnspeakableError: "),
    ],
)
async def test_what_an_event_failed_with_comes_out_of_a_process(
    in_processes: ProcessHandler, number: int, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as raised:
        await in_processes(0, batch()[number])
    assert str(raised.value) == text
    if isinstance(raised.value, RetryLaterError):
        assert raised.value.seconds == 7.5

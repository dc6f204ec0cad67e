"""Loading a handler."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate.contract import BranchContract, Executor
from headgate.handlers import HandlerLoadError, load_handler
from headgate.handlers.python import LoopHandler, ProcessHandler, ThreadHandler, load_function

if TYPE_CHECKING:
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

"""A pipeline as code sees it that is not async: a web framework's view, a thread, a script.

    with blocking.connect("orders") as orders:
        orders.publish(NewEvent(id="o1", data={"total": 5}))
        for record in orders.follow():
            print(record.id, record.results)

Every call is `headgate.connect`'s, made in a loop of its own in a thread beside, and waits for its end.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from headgate import client
from headgate.beside import Beside
from headgate.streams import OnBackpressure

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Iterator, Mapping
    from typing import Unpack

    from headgate.event import NewEvent
    from headgate.join.record import Record
    from headgate.letters import Which
    from headgate.streams import DeadLetter, PipelineMeasurement, Receipt

T = TypeVar("T")


@contextmanager
def connect(
    pipeline: str,
    *,
    namespace: str = "default",
    url: str | None = None,
    on_backpressure: OnBackpressure | str = OnBackpressure.WAIT,
) -> Iterator[Connection]:
    """As `headgate.connect`, which raises the same; for any number of threads, and none that a fork has made since.

    Raises RuntimeError inside an event loop, which a call that waits would hold up: there, use `headgate.connect`.
    """
    _refuse_loops()
    beside = Beside("headgate")
    try:
        opened = client.connect(pipeline, namespace=namespace, url=url, on_backpressure=on_backpressure)
        connection = beside.wait(opened.__aenter__())
        try:
            yield Connection(connection, beside)
        finally:
            beside.wait(opened.__aexit__(None, None, None))
    finally:
        beside.close()


class Connection:
    """One pipeline on one server: `headgate.Connection`, whose methods say what they do, without `await`."""

    def __init__(self, connection: client.Connection, beside: Beside) -> None:
        self.namespace = connection.namespace
        self.pipeline = connection.pipeline
        self._connection = connection
        self._beside = beside

    def publish(self, *events: NewEvent | Iterable[NewEvent]) -> list[Receipt]:
        """Publishes events; a receipt for each, in their order."""
        return self._run(self._connection.publish(*events))

    def records(self, after: Mapping[int, str] | None = None) -> list[Record]:
        """The join's records so far."""
        return self._run(self._connection.records(after))

    def follow(self, after: Mapping[int, str] | None = None) -> Generator[Record]:
        """The join's records, those that are there and then each as it comes, for ever."""
        records = self._connection.follow(after)

        async def one() -> Record:
            return await anext(records)

        while True:
            yield self._run(one())

    def counts(self, prefix: str = "") -> dict[str, int]:
        """What handlers counted, by name."""
        return self._run(self._connection.counts(prefix))

    def remove_counts(self, *names: str | Iterable[str]) -> int:
        """Removes counters that nobody counts any more; how many of them there were."""
        return self._run(self._connection.remove_counts(*names))

    def values(self) -> dict[str, Any]:
        """What handlers put, by key."""
        return self._run(self._connection.values())

    def value(self, key: str) -> Any:
        """What a handler put under a key, or None."""
        return self._run(self._connection.value(key))

    def dead_letters(self, branch: str, *, limit: int = 100, **which: Unpack[Which]) -> list[DeadLetter]:
        """The oldest dead letters of a branch, `limit` of each partition."""
        return self._run(self._connection.dead_letters(branch, limit=limit, **which))

    def redrive(self, branch: str, *, per_second: float = 0, **which: Unpack[Which]) -> int:
        """Gives dead letters to their branch again; how many."""
        return self._run(self._connection.redrive(branch, per_second=per_second, **which))

    def purge(self, branch: str, **which: Unpack[Which]) -> int:
        """Removes dead letters of a branch for good; how many."""
        return self._run(self._connection.purge(branch, **which))

    def measure(self) -> PipelineMeasurement:
        """The pipeline's figures."""
        return self._run(self._connection.measure())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            _refuse_loops()
        except RuntimeError:
            work.close()
            raise
        return self._beside.wait(work)


def _refuse_loops() -> None:
    """Raises RuntimeError inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "a call that waits would hold this event loop up: use `async with headgate.connect(...)`"
    )

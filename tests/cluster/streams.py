"""A pipeline's streams as the tests look at them: published to, measured, read. Each call connects anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from headgate.join import Record, read_records
from headgate.streams import PipelineKeys, PipelineMeasurement, Publisher, Server, measure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from headgate.event import NewEvent

T = TypeVar("T")


@dataclass(frozen=True)
class Streams:
    """The streams of one pipeline on the server at `url`."""

    url: str
    keys: PipelineKeys
    branches: tuple[str, ...]

    def publish(self, events: Sequence[NewEvent]) -> None:
        """Publishes in one go."""
        self._with(lambda server: Publisher(server, self.keys).publish(events))

    def measure(self) -> PipelineMeasurement:
        """The pipeline now."""
        (found,) = self._with(lambda server: measure(server, [(self.keys, self.branches)]))
        assert found is not None, f"{self.keys} cannot be measured"
        return found

    def records(self) -> list[Record]:
        """All final records."""
        return self._with(lambda server: read_records(server, self.keys))

    def names(self) -> set[str]:
        """Every key the server has of the pipeline."""

        async def scan(server: Server) -> set[str]:
            pattern = f"hg:{{{self.keys}:*"
            return {key.decode() async for key in server.scan(pattern)}

        return self._with(scan)

    def _with(self, work: Callable[[Server], Awaitable[T]]) -> T:
        async def run() -> T:
            server = Server.connect(self.url)
            try:
                return await work(server)
            finally:
                await server.aclose()

        return asyncio.run(run())

"""Whether a worker should be started anew (alive), and whether it takes events (ready).

It is not alive when its loop stands still, as a handler that blocks it makes it, or when its heartbeats get no answer
from a server that answers others: then only a new process helps. A server that answers nobody is no reason to end a
worker, which would lose what its handlers are doing and come back to the same.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from headgate.streams.errors import StreamsError
from headgate.streams.keys import PipelineKeys
from headgate.streams.server import Server

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.worker.worker import Worker

_LEASES = 3  # lease times; after one, what the worker holds is claimed by others
_LEAST_SILENT_SECONDS = 30.0  # the worker gives up a dead connection itself, and has twice the time for that
_TICK_SECONDS = 0.5
_ASK_SECONDS = 3.0


class Health:
    """Watches a worker from a thread of its own, so that it can tell of a loop that stands still.

    Made on the worker's loop. `stuck_seconds` and `silent_seconds` are what it bears with: by default three lease
    times, and at least 30 s of silence.
    """

    def __init__(
        self,
        worker: Worker,
        contract: BranchContract,
        url: str,
        *,
        stuck_seconds: float | None = None,
        silent_seconds: float | None = None,
    ) -> None:
        leases = _LEASES * contract.claim_after_seconds
        self._worker = worker
        self._url = url
        self._key = PipelineKeys(contract.namespace, contract.pipeline).partition(0).settings
        self._stuck_seconds = stuck_seconds or leases
        self._silent_seconds = silent_seconds or max(leases, _LEAST_SILENT_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._turned_at = time.monotonic()
        self._answers_others = False
        self._ended = threading.Event()
        self._turn()
        threading.Thread(target=self._watch, name="health", daemon=True).start()

    def alive(self) -> tuple[bool, str]:
        """Whether only a new process would help, and a sentence on why."""
        now = time.monotonic()
        stuck = now - self._turned_at
        if stuck > self._stuck_seconds:
            return False, f"the loop has stood still for {stuck:.1f} s: something the handler calls blocks it"
        silent = now - self._worker.answered_at
        if silent > self._silent_seconds and self._answers_others:
            return False, f"no heartbeat was answered for {silent:.1f} s, though the server answers others"
        return True, f"the loop turned {stuck:.1f} s ago, the server answered {silent:.1f} s ago"

    def ready(self) -> tuple[bool, str]:
        """Whether the worker takes events, and a sentence on why not."""
        why = self._worker.unready
        return not why, why or "taking events"

    def end(self) -> None:
        """Stops watching."""
        self._ended.set()

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        if not self._ended.is_set():
            self._loop.call_later(_TICK_SECONDS, self._turn)

    def _watch(self) -> None:
        """Asks the server over a connection of its own while the worker gets no answer: a probe must not wait."""
        while not self._ended.wait(min(_ASK_SECONDS, self._silent_seconds / 3)):
            silent = time.monotonic() - self._worker.answered_at
            self._answers_others = silent > self._silent_seconds and asyncio.run(self._ask())

    async def _ask(self) -> bool:
        server = Server.connect(self._url)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await server.execute(self._key, "EXISTS", self._key)
        except (StreamsError, OSError, TimeoutError):
            return False
        finally:
            await server.aclose()
        return True

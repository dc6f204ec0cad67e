"""A loop of its own in a thread of its own, for what must not wait behind everything else the process does."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future
    from typing import Any

T = TypeVar("T")


class Beside:
    """Runs from its first `run` to `close`. What runs in it must have been made for it: loops share no objects."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: it holds no process up that ends without closing it.
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does the work there; its result or error comes back here, and a cancellation goes there."""
        return await asyncio.wrap_future(self._begin(work))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """As `run`, for who is in no loop: whatever ends the waiting (Ctrl-C) ends the work."""
        doing = self._begin(work)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    def close(self) -> None:
        """Ends the thread; whatever still runs in it is left where it is."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._starting:
            if not self._thread.is_alive():
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

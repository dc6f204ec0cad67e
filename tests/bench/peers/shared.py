"""What the peers share: the server's address, the payload, and the count of what was handled.

The count is eight bytes of a file that the benchmark reads while the peer works: counting costs the peer a tenth of a
microsecond and no round trip, also where its handlers run in threads or in a process it forked.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

URL = os.environ.get("HEADGATE_BENCH_URL", "redis://127.0.0.1:6379")
DATA = "x" * 198  # 200 bytes as JSON, as in headgate's own runs
AT_ONCE = 100  # events enqueued side by side, where a peer can


def _counter() -> memoryview:
    path = Path(os.environ["HEADGATE_BENCH_COUNT"])
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8)).cast("q")


_handled = _counter()
_one_at_a_time = threading.Lock()


def handled(events: int = 1) -> None:
    """Counts events that reached a handler."""
    with _one_at_a_time:
        _handled[0] += events

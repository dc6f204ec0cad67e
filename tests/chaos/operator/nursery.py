"""Where operators are born: forked from a process that has imported everything, so that a start costs little.

A SIGKILL of one is a SIGKILL: it shares nothing with the harness.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, ForkServerProcess

PACE = 8.0
"""By how much the operator's clock is faster than ours: a tick of the pilot, 1 s, takes 125 ms."""
_PRELOADED = "chaos.operator.child"


@dataclass(frozen=True)
class Birth:
    """What an operator is started with."""

    namespace: str
    kubeconfig: str
    log: str
    pace: float = PACE


def start(birth: Birth) -> ForkServerProcess:
    """Starts one; `kill` it by the handle that this gives."""
    process = _context().Process(target=_live, args=(birth,), daemon=True)
    process.start()
    return process


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    # The fork server imports by the path of its environment, and says nothing of what it cannot import.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _live(birth: Birth) -> None:
    from chaos.operator import child  # noqa: PLC0415  # only there may it change the clock

    sys.exit(child.live(birth))

"""The operator as a process of its own: the real assembly (main.run), by a clock that runs faster.

It is forked from a process that has imported everything, so that a start costs little and a SIGKILL is one. Its
monotonic clock, and with it every sleep, tick, backoff and time-out of its loop, runs `pace` times as fast as ours:
5 s of latency are 5 s to the operator.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import selectors
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_operator import main

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

PACE = 8.0
"""By how much the operator's clock is faster than ours: a tick of the pilot, 1 s, takes 125 ms."""

IDENTITY = "operator-0"
"""One name for all: as of a pod that is restarted, so that nobody waits until the Lease of the dead one runs out."""

_LEASE_SECONDS = 10.0
"""By our clock: a machine that is busy with many operators renews late, and that is not what is tried here."""


@dataclass(frozen=True)
class Birth:
    """What an operator is started with."""

    namespace: str
    kubeconfig: str
    log: str
    pace: float = PACE


def start(birth: Birth) -> ForkServerProcess:
    """Starts one; `kill` it by the handle that this gives."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_live, args=(birth,), daemon=True)
    process.start()
    return process


class _Impatient(selectors.DefaultSelector):
    """Waits in seconds of the faster clock."""

    pace = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout if timeout is None else timeout / self.pace)


class _Hurried(asyncio.DefaultEventLoopPolicy):
    """Every loop of the process, also the one in the thread that renews the Lease."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_Impatient())


def hurry(pace: float) -> None:
    """Makes this process's clock run faster."""
    real = time.monotonic
    time.monotonic = lambda: real() * pace
    _Impatient.pace = pace
    asyncio.set_event_loop_policy(_Hurried())


def _live(birth: Birth) -> None:
    log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["KUBECONFIG"] = birth.kubeconfig
    main.configure_logging(logging.INFO)
    settings = main.OperatorSettings(
        namespaces=(birth.namespace,),
        metrics_port=0,
        health_port=0,
        worker_image="headgate/worker:1",
        own_namespace=birth.namespace,
        lease_seconds=_LEASE_SECONDS * birth.pace,
        identity=IDENTITY,
    )
    hurry(birth.pace)
    sys.exit(asyncio.run(main.run(settings)))

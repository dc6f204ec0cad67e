"""The operator as a process of its own: the real assembly (main.run), by a clock that runs faster.

Imported by the fork server alone, since it replaces the monotonic clock before anything of the operator is imported.
With the clock every sleep, tick, backoff and time-out of the operator's loops is `pace` times as short: 5 s of latency
are 5 s to the operator.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.operator.nursery import Birth

_real = time.monotonic
_pace = 1.0


def _monotonic() -> float:
    return _real() * _pace


time.monotonic = _monotonic

from headgate_operator import keeper, logs, main, reporter, settings  # noqa: E402  # functions keep the clock they were defined with

IDENTITY = "operator-0"
"""One name for all: as of a pod that is restarted, so that nobody waits until the Lease of the dead one runs out."""
_LEASE_SECONDS = 10.0
"""By our clock: a machine that is busy with many operators renews late, and that is not what is tried here."""
_FIGURES_SECONDS = 1.0


class _Impatient(selectors.DefaultSelector):
    """Waits in seconds of the faster clock."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout if timeout is None else timeout / _pace)


class _Hurried(asyncio.DefaultEventLoopPolicy):
    """Every loop of the process, also the one in the thread that renews the Lease."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_Impatient())


def live(birth: Birth) -> int:
    """Runs an operator until it ends; its exit code."""
    global _pace  # noqa: PLW0603  # the clock is the process's
    _pace = birth.pace
    asyncio.set_event_loop_policy(_Hurried())
    log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["KUBECONFIG"] = birth.kubeconfig
    logs.configure_logging()
    # Figures of the status are told ten seconds late at most: every comparison would wait for them.
    keeper.LOOK_SECONDS = reporter.LOOK_SECONDS = reporter.FIGURES_SECONDS = _FIGURES_SECONDS
    chosen = settings.OperatorSettings(
        namespaces=(birth.namespace,),
        metrics_port=0,
        health_port=0,
        worker_image="headgate/worker:1",
        own_namespace=birth.namespace,
        lease_seconds=_LEASE_SECONDS * birth.pace,
        identity=IDENTITY,
    )
    return asyncio.run(main.run(chosen))

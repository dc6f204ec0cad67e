"""The operator's process: its cluster, its signals, and the code it exits with."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING

import structlog

from headgate_operator.cluster import Cluster, ClusterError
from headgate_operator.leader import LeadershipLostError
from headgate_operator.operator import Operator

if TYPE_CHECKING:
    from headgate_operator.settings import OperatorSettings

_COLLECT_AFTER = 20_000  # objects made and not freed

log = structlog.get_logger()


async def run(settings: OperatorSettings) -> int:
    """Runs until SIGTERM or SIGINT; returns the process's exit code."""
    # With a thousand pipelines a collection of everything holds all of them up for half a second: seldom, then, and
    # without what is never garbage.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take_signals() -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)

    take_signals()
    try:
        cluster = await Cluster.connect()
    except ClusterError as error:
        log.error("no cluster", error=str(error))  # noqa: TRY400  # the message says it all
        return 1
    try:
        # Again when kopf has started: it takes the signals for itself, and would stop before the pilot does.
        await Operator(settings, cluster, on_watching=take_signals).run(stop)
    except LeadershipLostError as error:
        log.error("lost the lead: exiting at once, another one leads", error=str(error))  # noqa: TRY400
        os._exit(1)
    except Exception:
        log.exception("failed")
        return 1
    finally:
        await cluster.aclose()
    return 0

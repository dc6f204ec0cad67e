"""A worker process from its start to its exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING

import structlog
import uvloop

from headgate.handlers import HandlerLoadError, load_handler
from headgate.handlers.traced import traced
from headgate.logs import configure_logging
from headgate.streams.server import Server
from headgate.worker.endpoints import serve
from headgate.worker.health import Health
from headgate.worker.sieve import make_sieve
from headgate.worker.worker import Worker

if TYPE_CHECKING:
    from headgate.contract import BranchContract

log = structlog.get_logger("headgate.worker")
# The handler cannot be loaded: starting again will not help until the image or manifest changes.
EXIT_LOAD = 2
_COLLECT_AFTER = 50_000  # container objects made and not freed


def run_worker(contract: BranchContract, url: str, consumer: str, http_port: int = 9100) -> int:
    """Runs one worker until SIGTERM or SIGINT has drained it; a second signal ends it at once.

    `consumer` is the worker's name, `http_port` where /metrics, /healthz and /readyz are served (0: any free port,
    -1: nowhere). Gives the process's exit code: 0 drained, 2 the handler, the filter, the schema or a retry
    rule cannot be loaded.
    """
    configure_logging(
        branch=contract.branch, pipeline=f"{contract.namespace}/{contract.pipeline}", worker=consumer
    )
    try:
        _check_rules(contract)
        sieve = make_sieve(contract)
        handler = traced(load_handler(contract), contract, consumer)
    except (HandlerLoadError, ValueError) as error:
        log.error("worker.cannot_load", error=str(error))  # noqa: TRY400 - the message says it all
        return EXIT_LOAD

    # What is loaded by now stays: a collection need not look at it again. And they come seldom: what is read from the
    # server is a list an event, which a collection every 700 lists would go through again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)

    async def main() -> None:
        server = Server.connect(url)
        worker = Worker(server, contract, handler, consumer, sieve)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, worker, number)
        health = Health(worker, contract, url)
        http = None if http_port < 0 else serve(worker.metrics, health, http_port)
        if http is not None:
            log.info("worker.serving", port=http.server_port)
        try:
            if await worker.start_handler():
                await worker.run()
        finally:
            health.end()
            await handler.aclose()
            await server.aclose()

    def _stop(worker: Worker, number: int) -> None:
        log.info("worker.draining", signal=signal.Signals(number).name)
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        worker.drain()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        handler.close()
    return 0


def _check_rules(contract: BranchContract) -> None:
    if contract.retry.rules:
        from headgate.retry_rules import check_rules  # noqa: PLC0415 - a branch without rules does not pay

        check_rules(contract.retry.rules)

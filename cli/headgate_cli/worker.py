"""`headgate worker`: one worker process of one branch, as the control plane starts it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from types import FrameType


def worker_command(
    function: Annotated[
        str | None, typer.Option(help="Handler as module:attribute; the contract's own otherwise.")
    ] = None,
    contract: Annotated[
        str, typer.Option(envvar="HEADGATE_CONTRACT", help="The branch's settings as JSON.", show_envvar=True)
    ] = "",
    redis_url: Annotated[str, typer.Option(envvar="HEADGATE_REDIS_URL", help="The pipeline's server.")] = "",
    consumer: Annotated[
        str, typer.Option(envvar="HEADGATE_CONSUMER", help="This worker's name; the host's name otherwise.")
    ] = "",
    http_port: Annotated[
        int,
        typer.Option(
            envvar="HEADGATE_HTTP_PORT",
            help="Port of /metrics, /healthz and /readyz; 0: any free one, -1: none.",
        ),
    ] = 9100,
) -> None:
    """Work on one branch until SIGTERM.

    Then drain: finish what is running, hand back the rest.

    \b
    The control plane starts workers and sets the environment. By hand:
      export HEADGATE_REDIS_URL=redis://localhost
      export HEADGATE_CONTRACT='{"namespace":"default","pipeline":"videos","branch":"transcode","function":"videos:transcode"}'
      headgate worker
    """  # noqa: D301, E501 - \b is what keeps the lines of an example apart
    signal.signal(signal.SIGTERM, _leave)
    _end_with_parent()
    from headgate.contract import BranchContract, ContractError  # noqa: PLC0415
    from headgate.streams import Server  # noqa: PLC0415
    from headgate.worker import run_worker  # noqa: PLC0415

    if not contract:
        raise CommandError("HEADGATE_CONTRACT: not set: give the branch's settings as JSON", Exit.INVALID)
    if not redis_url:
        raise CommandError("HEADGATE_REDIS_URL: not set: give the server's URL", Exit.INVALID)
    try:
        Server.connect(redis_url)  # connects to nothing yet; it only reads the URL
    except ValueError as error:
        raise CommandError(f"HEADGATE_REDIS_URL: {error}", Exit.INVALID) from error
    import msgspec  # noqa: PLC0415

    try:
        settings = BranchContract.decode(contract)
    except ContractError as error:
        raise CommandError(str(error), Exit.INVALID) from error
    if function is not None:
        settings = msgspec.structs.replace(settings, function=function)
    if not sys.flags.safe_path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a handler beside the caller, as with `python -m`
    raise typer.Exit(run_worker(settings, redis_url, consumer or socket.gethostname(), http_port))


def _leave(number: int, _: FrameType | None) -> None:
    """Ends a worker that is still starting, which has taken nothing yet; once it reads, it drains instead.

    A container's first process is not ended by a signal that it does not handle: it would be killed only when its grace
    period is over.
    """
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Kills this process group once the process that started it is gone, however it went.

    HEADGATE_LIFELINE is the reading end of a pipe that nobody writes to and only the parent holds open.
    """
    lifeline = os.environ.pop("HEADGATE_LIFELINE", None)
    if lifeline is None:
        return

    def watch() -> None:
        if os.read(int(lifeline), 1) == b"":
            os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()

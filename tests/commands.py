"""How a command of this folder ends: by its exit code, or on a signal, when all that it started is ended first."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130  # as a shell tells of SIGINT


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs it; Ctrl-C and SIGTERM end it by KeyboardInterrupt, on which servers, clusters and processes are taken down.

    SIGINT too is asked for: a shell has what it starts in the background ignore it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was started is ended\n")
        sys.exit(INTERRUPTED)

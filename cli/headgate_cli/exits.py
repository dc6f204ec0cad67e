"""How the command ends: exit codes, and the error that carries one."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1
    INVALID = 2
    """The command line or a manifest is wrong."""
    DEAD_LETTERS = 3
    """Everything is settled, but some of it as dead letters."""
    TIMED_OUT = 4
    WORKERS_FAILED = 5
    """Workers end by themselves again and again."""
    REFUSED = 6
    """Backpressure rejects the lane of what was to be published."""
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with a message of one line (or a line a mistake) and an exit code, without a traceback."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code

"""How a test of a pipeline fails, besides by its own assertions."""

from __future__ import annotations


class NotSettledError(AssertionError):
    """Events were not settled within the real time allowed; says which, in which branch, and what they wait for."""


class WorkerBrokenError(RuntimeError):
    """A branch's worker ended by itself: what it ran into is the cause of this error."""

"""Handlers: what a branch does with an event."""

from headgate.handlers.base import Handler, HandlerCrashedError, HandlerLoadError
from headgate.handlers.python import load_handler

__all__ = ["Handler", "HandlerCrashedError", "HandlerLoadError", "load_handler"]

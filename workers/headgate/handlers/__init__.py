"""Handlers: what a branch does with an event."""

from headgate.handlers.base import Handler, HandlerCrashedError, HandlerLoadError, RemoteError
from headgate.handlers.load import load_handler

__all__ = ["Handler", "HandlerCrashedError", "HandlerLoadError", "RemoteError", "load_handler"]

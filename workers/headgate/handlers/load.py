"""The one place that knows every kind of handler: a contract in, its handler out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.handlers.base import Handler, HandlerLoadError
from headgate.handlers.python import load_python

if TYPE_CHECKING:
    from headgate.contract import BranchContract


def load_handler(contract: BranchContract) -> Handler:
    """The handler a contract asks for; raises HandlerLoadError where the manifest or image must change first."""
    if contract.http is None:
        return load_python(contract.function, contract.executor, contract.concurrency)
    try:
        from headgate.handlers.http import HttpHandler  # noqa: PLC0415 - only those who push pay for a client
    except ModuleNotFoundError as error:
        raise HandlerLoadError(
            f"handler.http needs {error.name}, which is not installed: pip install 'headgate[http]'"
        ) from error
    return HttpHandler(contract)

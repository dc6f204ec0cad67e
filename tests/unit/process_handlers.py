"""Handlers that child processes of tests import; the import itself takes a while."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.event import Event

IMPORT_SECONDS = 2.5
time.sleep(IMPORT_SECONDS)


def echo(event: Event) -> Any:
    return event.data


def size(event: Event) -> int:
    return len(event.body)


def pid(_: Event) -> int:
    return os.getpid()


def slow(_: Event) -> None:
    time.sleep(60)


def die(_: Event) -> None:
    os._exit(7)


def unspeakable(_: Event) -> Any:
    return lambda: None

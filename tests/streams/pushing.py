"""What tests of pushing share: contracts of branches that push, and what came of it."""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from typing import Any

from headgate.contract import BranchContract, HttpContract
from headgate.event import NewEvent
from headgate.streams import read_dead_letters
from streams.desk import QUICK, Desk
from streams.targets import LOOPBACK, Target


def pushed(canal: Desk, url: str, settings: dict[str, Any] | None = None, **contract: Any) -> BranchContract:
    """A branch's contract that pushes to a URL on loopback."""
    http = HttpContract(url=url, **({"allow_networks": LOOPBACK} | (settings or {})))
    return canal.contract(function="", http=http, **({"retry": QUICK} | contract))


def new_key() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def pushes(target: Target) -> Counter[str]:
    """How often each event was pushed."""
    return Counter(request.headers["ce-id"] for request, _ in target.requests)


async def errors(canal: Desk) -> dict[str, str]:
    return {letter.id: letter.error for letter in await read_dead_letters(canal.server, canal.keys, "a")}


def some(count: int) -> list[NewEvent]:
    return [NewEvent(id=f"e{number}", data={"n": number}) for number in range(count)]

"""A pipeline's own login at the operator's server: what its Secret keeps of it, and how one password follows another.

The Secret is the only memory. Every step towards another password can be the last of an operator that dies: the next
one finds in the Secret how far it came.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

ROTATE = "headgate.dev/rotate-credentials"
"""The annotation of a pipeline whose every new value asks for another password."""
_KEYS = ("username", "password", "previous", "rotation")
_LOGIN_OPTIONS = ("username", "password")


@dataclass(frozen=True)
class Login:
    """A user and its password. `previous` works beside it until every worker has the new one; empty otherwise.

    `rotation` is the value of the annotation that has been answered.
    """

    username: str
    password: str = field(repr=False)
    previous: str = field(default="", repr=False)
    rotation: str = ""

    @property
    def passwords(self) -> tuple[str, ...]:
        """All that the user may log in with, the one in use first."""
        return (self.password, self.previous) if self.previous else (self.password,)

    def url(self, server: str) -> str:
        """The server's URL with this login instead of the one it has; all else stays, a sentinel's login too."""
        parts = urlsplit(server)
        hosts = parts.netloc.rpartition("@")[2]
        options = [pair for pair in parse_qsl(parts.query) if pair[0] not in _LOGIN_OPTIONS]
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return urlunsplit(parts._replace(netloc=f"{user}@{hosts}", query=urlencode(options, safe="/")))

    def members(self) -> dict[str, str]:
        """What of it stands in the Secret beside the URL."""
        return {name: value for name in _KEYS if (value := str(getattr(self, name)))}

    @classmethod
    def read(cls, secret: Mapping[str, Any], username: str) -> Login | None:
        """The login that a Secret keeps for this user; None when it keeps none, or what cannot be one."""
        try:
            held = {
                name: base64.b64decode(value, validate=True).decode()
                for name, value in (secret.get("data") or {}).items()
                if name in _KEYS
            }
        except ValueError:
            return None
        if held.get("username") != username or not held.get("password"):
            return None
        return cls(**held)


def fresh_password() -> str:
    """One that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(32)


def following(held: Login, rotation: str, *, moved: bool, fresh: str) -> Login:
    """The login after this step, given the one that is held.

    `moved`: whether no worker is left that may know the previous password only. A rotation that is asked for while
    another is under way begins when that one is over.
    """
    if held.previous:
        return replace(held, previous="") if moved else held
    if held.rotation != rotation:
        return replace(held, password=fresh, previous=held.password, rotation=rotation)
    return held

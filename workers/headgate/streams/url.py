"""What a server's URL says: one server, a cluster, or a master that sentinels know; with which login and TLS.

redis://[user:password@]host[:port][/db], rediss:// with TLS, unix://path, redis+cluster://host:port[,host:port...],
redis+sentinel://host:port[,host:port...]/service[/db]. Options after `?` are those of redis-py, such as
ssl_ca_certs, ssl_certfile, ssl_keyfile and ssl_check_hostname; sentinel_username and sentinel_password log in to the
sentinels, which have users of their own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from redis.asyncio.connection import parse_url

_PLAIN = ("redis", "rediss", "unix")
_CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
SCHEMES = (*_PLAIN, *_CLUSTER, *_SENTINEL)
_OPTIONS = re.compile("[?#]")
_HOST = re.compile(r"([\w.%-]*|\[[\w:.%]*\])(:[0-9]*)?")
_USER = re.compile(r"[\w.~%-]*")
_NO_HOST = "its host is no host:port; percent-encode special characters of the password"
_SENTINEL_PORT = 26379
_SERVER_PORT = 6379


@dataclass(frozen=True)
class ServerUrl:
    """A URL taken apart; made by `read_url`."""

    text: str = field(repr=False)
    is_cluster: bool
    service: str | None  # the name sentinels know the master by; None without sentinels
    hosts: tuple[tuple[str, int], ...]  # of the server, of some nodes of the cluster, or of the sentinels
    path: str | None  # of a Unix socket
    is_tls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    db: int
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # the rest, as redis-py takes it
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def tls_options(self) -> dict[str, Any]:
        """Those options that say how TLS is done."""
        return {name: value for name, value in self.options.items() if name.startswith("ssl_")}

    def missing_file(self) -> str | None:
        """The option and path of a file that TLS needs and that cannot be read; blocks for as long as a disk does."""
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            path = self.options.get(option)
            if path and not os.access(path, os.R_OK):
                return f"{option}={path}"
        return None

    def __str__(self) -> str:
        return redact(self.text)


def redact(url: str) -> str:
    """The URL without its password and its options, for logs and messages.

    What is no URL may well be a password, or one that was not percent-encoded: of that nothing is shown that could be
    a part of it.
    """
    scheme, is_url, rest = url.partition("://")
    if not is_url or scheme not in SCHEMES:
        return f"{scheme}://***" if is_url and scheme.isalnum() else "***"
    login, at, place = rest.rpartition("@")
    place = _OPTIONS.split(place)[0]
    hosts, slash, path = place.partition("/")
    if not all(_HOST.fullmatch(host) and not host.endswith(":") for host in hosts.split(",")):
        hosts, slash, path = "***", "", ""
    user, colon, _ = login.partition(":")
    user = user if _USER.fullmatch(user) else "***"
    return f"{scheme}://{user}{':***' if colon else ''}{at}{hosts}{slash}{path}"


def read_url(text: str) -> ServerUrl:
    """A URL taken apart; raises ValueError that says what is wrong with it."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"Redis URL {redact(text)!r}: {_NO_HOST}") from None
    scheme = parts.scheme if "://" in text else ""
    if scheme not in SCHEMES:
        raise ValueError(f"Redis URL {redact(text)!r}: scheme {scheme!r} is not one of {', '.join(SCHEMES)}")
    # A socket has no port, so that a colon there begins a password too.
    is_cut = ":" in parts.netloc.rpartition("@")[2] if scheme == "unix" else "@" in parts.path
    if is_cut:
        raise ValueError(
            f"Redis URL {redact(text)!r}: has an @ after the host: if the password has a /, write it as %2F"
        )
    login, _, netloc = parts.netloc.rpartition("@")
    service = None
    path = parts.path
    if scheme in _SENTINEL:
        service, _, rest = path.lstrip("/").partition("/")
        if not service:
            raise ValueError(
                f"Redis URL {redact(text)!r}: names no master; the sentinels' name for it is the path, as in"
                f" {scheme}://host:26379/mymaster"
            )
        service, path = unquote(service), f"/{rest}" if rest else ""
    if scheme == "unix":
        options: dict[str, Any] = {**parse_url(text)}
        hosts: tuple[tuple[str, int], ...] = ()
    else:
        hosts = tuple(_host(text, each, scheme) for each in netloc.split(","))
        plain = _CLUSTER.get(scheme) or _SENTINEL.get(scheme) or scheme
        if len(hosts) > 1 and scheme in _PLAIN:
            raise ValueError(
                f"Redis URL {redact(text)!r}: several hosts need redis+cluster:// or redis+sentinel://"
            )
        at = f"{login}@" if login else ""
        options = {**parse_url(urlunsplit((plain, f"{at}localhost", path, parts.query, "")))}
    options.pop("host", None)
    options.pop("connection_class", None)
    db = int(options.pop("db", 0))
    if db and scheme in _CLUSTER:
        raise ValueError(f"Redis URL {redact(text)!r}: a cluster has database 0 only")
    names = ("username", "password")
    return ServerUrl(
        text=text,
        is_cluster=scheme in _CLUSTER,
        service=service,
        hosts=hosts,
        path=options.pop("path", None),
        is_tls=scheme.startswith("rediss"),
        username=options.pop("username", None),
        password=options.pop("password", None),
        db=db,
        sentinel_login={name: options.pop(key) for name in names if (key := f"sentinel_{name}") in options},
        options=options,
    )


def _host(text: str, netloc: str, scheme: str) -> tuple[str, int]:
    if netloc.endswith(":"):  # without a port: most likely a password begins there, with a slash
        raise ValueError(f"Redis URL {redact(text)!r}: {_NO_HOST}")
    try:
        parts = urlsplit(f"//{netloc}")
        port = parts.port
    except ValueError:
        # Neither what stands there nor what is wrong with it is told: it may be a part of a password.
        raise ValueError(f"Redis URL {redact(text)!r}: {_NO_HOST}") from None
    return parts.hostname or "localhost", port or (_SENTINEL_PORT if scheme in _SENTINEL else _SERVER_PORT)

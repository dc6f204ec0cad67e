"""What an error of the server, or of the way to it, means to us, and what to do about it.

One place for both clients: the general one, whose exceptions have lost the reply's first word, and the workers' wire.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from headgate.streams.errors import (
    DeniedError,
    NotProvisionedError,
    ServerRefusedError,
    ServerUnavailableError,
    StreamsError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.streams.script import Script
    from headgate.streams.url import ServerUrl

# Replies after which another node is the right one to ask.
MOVED_WORDS = ("MOVED", "ASK", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "TRYAGAIN", "UNBLOCKED")
# Replies after which the same node may answer later, or another: the last comes of a master that was demoted just now.
_LATER_WORDS = ("LOADING", "BUSY ", "NOREPLICAS", "ERR WAIT cannot be used with replica")
# Replies that stay the same until somebody does something about it.
_REMEDIES = {
    "OOM": "free memory, or raise maxmemory",
    "MISCONF": "the server cannot save its data: see its log and disk",
    "NOAUTH": "the server wants a login: give it in the URL, redis://USER:PASSWORD@HOST",
    "WRONGPASS": "check the user and the password in the URL; percent-encode special characters",
    "DENIED": "the server takes no strangers: give it a password or protected-mode no, and the login in the URL",
    "NOPERM": "grant it to the user; docs/guides/servers.md lists what each part of Headgate needs",
}
# Words of denials within scripts: Redis 7.0; Redis 7.2 and Valkey.
_DENIED_IN_SCRIPT = ("executing the script can't", "ACL failure in script")
_CUTS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_LINE = re.compile(r"on @user_script:(\d+)")
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")
_CERTIFICATE_REMEDIES = {
    10: "it has expired: renew the server's certificate",
    18: "give the file of its authority as ssl_ca_certs=",
    19: "give the file of its authority as ssl_ca_certs=",
    20: "give the file of its authority as ssl_ca_certs=",
    21: "give the file of its authority as ssl_ca_certs=",
    62: "connect by a name that the certificate has, or give ssl_check_hostname=false",
    64: "connect by an address that the certificate has, or give ssl_check_hostname=false",
}
_ALERT_REMEDIES = {
    "CERTIFICATE_REQUIRED": "the server wants a client's certificate: give ssl_certfile= and ssl_keyfile=",
    "HANDSHAKE_FAILURE": "the server may want a client's certificate: give ssl_certfile= and ssl_keyfile=",
    "UNKNOWN_CA": "the server does not know the authority of our certificate, ssl_certfile=: see its tls-ca-cert-file",
    "BAD_CERTIFICATE": "the server refuses our certificate: see ssl_certfile= and the server's log",
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew ssl_certfile=",
    "WRONG_VERSION_NUMBER": "the port speaks no TLS: use redis:// or the server's tls-port",
    "RECORD_LAYER_FAILURE": "the port speaks no TLS: use redis:// or the server's tls-port",
}


def meaning(text: str, name: str, script: Script | None = None) -> StreamsError:
    """What an error reply means: one of the errors of headgate.streams.errors.

    `name` is the server's, for the message. A denial within a script names no command on Redis 7.0: it is read from
    the line of the script.
    """
    if text.startswith("NOGROUP") or "no such key" in text:
        return NotProvisionedError(text)
    if any(words in text for words in _DENIED_IN_SCRIPT):
        return DeniedError(f"Redis server {name}: {text}{_denied(text, script)}: {_REMEDIES['NOPERM']}")
    for word, remedy in _REMEDIES.items():
        if text.startswith(word):
            return ServerRefusedError(f"Redis server {name}: {text}: {remedy}")
    if "max number of clients" in text:
        return ServerUnavailableError(f"Redis server {name}: {text}: close some, or raise its maxclients")
    if text.startswith((*MOVED_WORDS, *_LATER_WORDS)):
        return ServerUnavailableError(f"Redis server {name}: {text}")
    return StreamsError(f"Redis server {name}: {text}")


def broken(error: BaseException | None, target: ServerUrl) -> ServerUnavailableError:
    """What a connection that failed means; ServerRefusedError where TLS refused it, with the remedy."""
    name = str(target)
    chain = list(causes(error))
    for seen in chain:
        if isinstance(seen, ssl.SSLCertVerificationError):
            remedy = _CERTIFICATE_REMEDIES.get(seen.verify_code, "see the server's certificate")
            return ServerRefusedError(
                f"Redis server {name}: its certificate is refused: {seen.verify_message}: {remedy}"
            )
        if isinstance(seen, ssl.SSLError):
            said = f"{seen.reason or ''} {seen}".upper().replace(" ", "_")
            for word, remedy in _ALERT_REMEDIES.items():
                if word in said:
                    return ServerRefusedError(
                        f"Redis server {name}: TLS failed: {seen.reason or seen}: {remedy}"
                    )
    if target.is_tls and any(isinstance(seen, FileNotFoundError | PermissionError) for seen in chain):
        missing = target.missing_file()
        if missing is not None:
            return ServerRefusedError(f"Redis server {name}: {missing}: the file cannot be read")
    text = _failure(error, target)
    if target.is_tls and any(isinstance(seen, TimeoutError) for seen in chain):
        text += ": where other ports of the host answer, see whether this one speaks TLS"
    elif target.is_tls and ("closed" in text or any(isinstance(seen, _CUTS) for seen in chain)):
        # In TLS 1.3 a server refuses a client's certificate after the handshake, and its reason may not arrive.
        text += (
            ": if it always ends so, the server wants a client's certificate or refuses ours: see ssl_certfile= and"
            " ssl_keyfile="
        )
    return ServerUnavailableError(f"Redis server {name}: {text}")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _failure(error: BaseException | None, target: ServerUrl) -> str:
    text = str(error) or "timed out"
    if text.startswith("No master found"):  # what the library adds is the repr of its clients
        return (
            f"no sentinel that answers knows of a master {target.service!r} that is up: see the name, and the"
            " sentinels' addresses and logs"
        )
    return text


def _denied(text: str, script: Script | None) -> str:
    """Which command of the script it was that the user may not run; empty where nobody can tell."""
    line = _LINE.search(text)
    if script is None or line is None:
        return ""
    lines = script.text.splitlines()
    at = int(line[1]) - 1
    calls = _CALL.findall(lines[at]) if at < len(lines) else []
    return (
        f" ({script.name} runs {' or '.join(dict.fromkeys(calls))} there)" if calls else f" ({script.name})"
    )

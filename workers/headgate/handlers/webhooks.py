"""Signatures by Standard Webhooks (https://www.standardwebhooks.com): who pushes, and that nobody changed it.

The signed text is `<webhook-id>.<webhook-timestamp>.<body>`, the signature `v1,<base64 of its HMAC-SHA256>`. While keys
are rotated there are two, and a receiver that knows either is satisfied.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

import structlog

log = structlog.get_logger("headgate.worker")
_PREFIX = "whsec_"
_MOST_KEYS = 2
_KEY_BYTES = range(24, 65)


class SigningKeysError(Exception):
    """The file of signing keys cannot be used; says which file and why, never a key."""


class SigningKeys:
    """The keys of a file, read again when the file changes: a secret is rotated without a restart.

    The file holds one or two `whsec_...` keys apart by white space. Raises SigningKeysError when the first reading
    fails; when a later one does, the keys of before go on to sign and the log says so.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp = self._look()
        self._keys = self._read()

    def sign(self, webhook_id: str, timestamp: int, body: bytes) -> str:
        """The value of `webhook-signature`; `timestamp` in seconds since 1970."""
        self._refresh()
        signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
        signatures = (hmac.digest(key, signed, hashlib.sha256) for key in self._keys)
        return " ".join("v1," + base64.b64encode(signature).decode() for signature in signatures)

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._keys = self._read()
        except SigningKeysError as error:
            log.error("signing_keys.kept", error=str(error))  # noqa: TRY400 - the message says it all
        else:
            log.info("signing_keys.read", keys=len(self._keys))

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise self._broken(f"cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> list[bytes]:
        try:
            words = self._path.read_text().split()
        except (OSError, ValueError) as error:
            raise self._broken(f"cannot be read: {type(error).__name__}") from error
        if not 1 <= len(words) <= _MOST_KEYS:
            raise self._broken(f"holds {len(words)} keys; give one, or two while they are rotated")
        return [self._key(number, word) for number, word in enumerate(words, 1)]

    def _key(self, number: int, word: str) -> bytes:
        if not word.startswith(_PREFIX):
            raise self._broken(f"key {number} does not begin with {_PREFIX}")
        encoded = word.removeprefix(_PREFIX)
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise self._broken(f"key {number}: what follows {_PREFIX} is no base64") from None
        if len(key) not in _KEY_BYTES:
            raise self._broken(f"key {number} has {len(key)} bytes; Standard Webhooks wants 24 to 64")
        return key

    def _broken(self, why: str) -> SigningKeysError:
        return SigningKeysError(f"signing keys file {str(self._path)!r} {why}")

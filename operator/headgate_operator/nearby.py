"""What a pipeline finds of a cluster where there is none: Secrets that stand beside it, services that listen nearby."""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING, Any

from headgate_operator.pipeline import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headgate_operator.api import SigningSecretRef

Document = dict[str, Any]


def keys_file(wanted: SigningSecretRef, field: str, secrets: Iterable[Document], file: Path) -> str:
    """Writes signing keys to a file that this user alone may read; gives its path.

    `secrets` are the documents of kind Secret beside the pipeline, `field` is where it asks for one. Raises
    ManifestError when they do not have it.
    """
    keys = _value(wanted, field, secrets)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(keys)
    return str(file)


def with_path(url: str, path: str) -> str:
    """The URL, with this path (and query) where it has none of its own."""
    return url if path_of(url) else url + path


def path_of(url: str) -> str:
    """Path and query of a URL; empty when it is a host alone."""
    return re.sub(r"^https?://[^/?]*", "", url)


def _value(wanted: SigningSecretRef, field: str, secrets: Iterable[Document]) -> bytes:
    found = [each for each in secrets if _dict(each.get("metadata")).get("name") == wanted.name]
    if not found:
        raise ManifestError(
            f"{field}.name: {wanted.name!r}: no such Secret beside the pipeline, where it is looked for without a"
            f" cluster: add a document of kind: Secret with stringData: {{{wanted.key}: whsec_...}}"
        )
    # Of two with the same name the last counts, as after `kubectl apply`; of two fields stringData, as on a cluster.
    text, encoded = (_dict(found[-1].get(each)).get(wanted.key) for each in ("stringData", "data"))
    if text is not None:
        return str(text).encode()
    if encoded is None:
        raise ManifestError(
            f"{field}.key: {wanted.key!r}: Secret {wanted.name} has no such key: add it to stringData"
        )
    try:
        return base64.b64decode(str(encoded), validate=True)
    except ValueError as error:
        raise ManifestError(
            f"{field}.key: {wanted.key!r}: data of Secret {wanted.name} is no base64: correct it, or use stringData"
        ) from error


def _dict(value: Any) -> Document:
    return value if isinstance(value, dict) else {}

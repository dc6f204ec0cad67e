"""Certificates for tests of TLS, made by the openssl program: an authority, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.servers import ServerMissingError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate and of its key."""

    file: Path
    key: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._own = Certificate(folder / "ca.crt", folder / "ca.key")
        request = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        files = ["-keyout", str(self._own.key), "-out", str(self._own.file)]
        _openssl(*request, *files, "-subj", f"/CN=Headgate tests {folder.name}")

    @property
    def file(self) -> Path:
        """The certificate that others trust."""
        return self._own.file

    def sign(self, name: str, alternative_names: str, days: int = 2) -> Certificate:
        """A certificate of a name, such as `DNS:localhost,IP:127.0.0.1`."""
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        asked, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative_names}\n")
        request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        _openssl(*request, "-keyout", str(made.key), "-out", str(asked), "-subj", f"/CN={name}")
        signing = [
            "x509",
            "-req",
            "-in",
            str(asked),
            "-CA",
            str(self._own.file),
            "-CAkey",
            str(self._own.key),
        ]
        more = ["-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(made.file)]
        _openssl(*signing, *more)
        return made


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise ServerMissingError("openssl is not on PATH; install it (Debian: apt-get install openssl)")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)

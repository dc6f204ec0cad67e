"""What the branches of a local run need of this machine: files with signing keys, and where containers listen.

On a cluster both come with the pod. Here the keys are in Secrets of the manifest's file, and whoever runs a pipeline
with containers starts those by himself.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate_cli.exits import CommandError, Exit
from headgate_operator.api import URL_PATTERN
from headgate_operator.contracts import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate_cli.manifests import Manifest
    from headgate_operator.api import BranchSpec, SigningSecretRef

PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Where a container that somebody started himself may be, besides on this machine."""


@contextmanager
def places(manifest: Manifest, containers: Mapping[str, str]) -> Iterator[dict[str, Place]]:
    """The place of each branch that needs one; files of keys are this user's alone, and go when the block ends.

    `containers` gives the URLs of branches with a container handler. Raises CommandError.
    """
    branches = manifest.pipeline.spec.branches
    wrong = sorted(containers.keys() - {each.name for each in branches if each.handler.container is not None})
    if wrong:
        raise CommandError(f"--container {wrong[0]}: no branch of that name has a container", Exit.INVALID)
    with tempfile.TemporaryDirectory(prefix="headgate-keys-") as folder:
        yield {
            branch.name: _place(manifest, at, branch, containers, Path(folder))
            for at, branch in enumerate(branches)
        }


def given_containers(options: Sequence[str]) -> dict[str, str]:
    """The `BRANCH=URL` of --container by branch; raises CommandError."""
    given = {}
    for option in options:
        branch, _, url = option.partition("=")
        if not re.fullmatch(URL_PATTERN.strip("^$"), url):
            raise CommandError(
                f"--container {option}: give BRANCH=URL, such as resize=http://127.0.0.1:8080", Exit.INVALID
            )
        given[branch] = url
    return given


def _place(
    manifest: Manifest, at: int, branch: BranchSpec, containers: Mapping[str, str], folder: Path
) -> Place:
    container = branch.handler.container
    if container is not None:
        if branch.name not in containers:
            raise CommandError(
                f"spec.branches[{at}].handler.container: image {container.image!r} is not started on this machine:"
                f" start it yourself and say where it listens:"
                f" --container {branch.name}=http://127.0.0.1:{container.port}",
                Exit.INVALID,
            )
        url = containers[branch.name]
        has_path = re.search(r"://[^/?]+[/?]", url) is not None
        return Place(
            container_url=url if has_path else url + container.path, container_networks=PRIVATE_NETWORKS
        )
    signing = branch.handler.http.signing_secret_ref if branch.handler.http is not None else None
    if signing is None:
        return Place()
    keys = _keys(manifest, f"spec.branches[{at}].handler.http.signingSecretRef", signing)
    file = folder / branch.name
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(keys)
    return Place(signing_keys_file=str(file))


def _keys(manifest: Manifest, field: str, wanted: SigningSecretRef) -> bytes:
    """The value of a key of a Secret that stands in the manifest's file."""
    found = [each for each in manifest.secrets if _dict(each.get("metadata")).get("name") == wanted.name]
    if not found:
        raise CommandError(
            f"{field}.name: {wanted.name!r}: no such Secret in {manifest.file}: a local run takes it from there; add a"
            f" document of kind: Secret with stringData: {{{wanted.key}: whsec_...}}",
            Exit.INVALID,
        )
    text, encoded = (_dict(found[-1].get(each)).get(wanted.key) for each in ("stringData", "data"))
    if text is None and encoded is None:
        raise CommandError(
            f"{field}.key: {wanted.key!r}: Secret {wanted.name} of {manifest.file} has no such key:"
            " add it to stringData",
            Exit.INVALID,
        )
    if text is not None:
        return str(text).encode()
    try:
        return base64.b64decode(str(encoded), validate=True)
    except ValueError as error:
        raise CommandError(
            f"{field}.key: {wanted.key!r}: data of Secret {wanted.name} is no base64: correct it, or use stringData",
            Exit.INVALID,
        ) from error


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

"""What the branches of a local run need of this machine: files with signing keys, and where their targets listen.

On a cluster the keys and a container come with the pod, and services have names. Here the keys are in Secrets of the
manifest's file, and whoever runs a pipeline starts its containers and services by himself and says where they listen.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.handlers.addresses import LOOPBACK, PRIVATE_NETWORKS
from headgate_cli.exits import CommandError, Exit
from headgate_operator.api import URL_PATTERN
from headgate_operator.contracts import Place
from headgate_operator.nearby import keys_file, path_of, with_path
from headgate_operator.pipeline import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate_cli.manifests import Manifest
    from headgate_operator.api import BranchSpec, SigningSecretRef


@dataclass(frozen=True)
class _Branch:
    """One branch of a file, `at` its place among those of its pipeline."""

    manifest: Manifest
    at: int
    spec: BranchSpec

    @property
    def name(self) -> str:
        return self.manifest.called(self.spec.name)

    @property
    def key(self) -> tuple[str, str]:
        return str(self.manifest.pipeline), self.spec.name

    @property
    def handler(self) -> str:
        """Where its handler stands, for what is wrong with it."""
        pipeline = f"{self.manifest.label}: " if self.manifest.label else ""
        return f"{pipeline}spec.branches[{self.at}].handler"


@contextmanager
def places(
    manifests: Sequence[Manifest], containers: Mapping[str, str], services: Mapping[str, str]
) -> Iterator[dict[tuple[str, str], Place]]:
    """The place of each branch, by its pipeline (namespace/name) and its name.

    `containers` gives the URLs of branches with a container handler, `services` those of branches with an http handler
    that are pushed to elsewhere on this machine, both by BRANCH or PIPELINE/BRANCH. Files of keys are this user's
    alone, and go when the block ends. Raises CommandError.
    """
    branches = _branches(manifests)
    with_container = [each for each in branches if each.spec.handler.container is not None]
    with_http = [each for each in branches if each.spec.handler.http is not None]
    urls = _urls("--container", "a container", containers, with_container)
    urls |= _urls("--service", "an http handler", services, with_http)
    with tempfile.TemporaryDirectory(prefix="headgate-keys-") as folder:
        yield {each.key: _place(each, urls.get(each.key, ""), Path(folder)) for each in branches}


def named_in_a_cluster(manifests: Sequence[Manifest], found: Mapping[tuple[str, str], Place]) -> list[str]:
    """What to tell of branches that push to a cluster's service, whose name means nothing on this machine."""
    said = []
    for branch in _branches(manifests):
        http = branch.spec.handler.http
        if http is None or found[branch.key].url:
            continue
        host, _, port = re.sub(r"^https?://|[/?].*$", "", http.url).partition(":")
        is_short = re.fullmatch(r"[-A-Za-z0-9]+", host) and host != "localhost"
        if is_short or host.endswith((".svc", ".svc.cluster.local")):
            said.append(
                f"branch {branch.name}: {host} is a service's name in a cluster: start that on this machine and say"
                f" where it listens: --service {branch.name}=http://127.0.0.1:{port or 8080}"
            )
    return said


def given_urls(option: str, values: Sequence[str]) -> dict[str, str]:
    """The `BRANCH=URL` of --container or --service by branch; raises CommandError."""
    given = {}
    for value in values:
        branch, _, url = value.partition("=")
        if not re.fullmatch(URL_PATTERN.strip("^$"), url):
            raise CommandError(
                f"{option} {value}: give BRANCH=URL, such as resize=http://127.0.0.1:8080", Exit.INVALID
            )
        given[branch] = url
    return given


def _branches(manifests: Sequence[Manifest]) -> list[_Branch]:
    return [
        _Branch(manifest, at, spec)
        for manifest in manifests
        for at, spec in enumerate(manifest.pipeline.spec.branches)
    ]


def _urls(
    option: str, kind: str, given: Mapping[str, str], branches: Sequence[_Branch]
) -> dict[tuple[str, str], str]:
    """The URLs that an option gives to some of `branches`, which are those of its kind; raises CommandError."""
    urls: dict[tuple[str, str], str] = {}
    for name, url in given.items():
        meant = [each for each in branches if name in {each.spec.name, each.name}]
        if not meant:
            raise CommandError(f"{option} {name}: no branch of that name has {kind}", Exit.INVALID)
        if len(meant) > 1:
            which = " or ".join(each.name for each in meant)
            raise CommandError(f"{option} {name}: is in several pipelines: give {which}", Exit.INVALID)
        urls[meant[0].key] = url
    return urls


def _place(branch: _Branch, url: str, folder: Path) -> Place:
    """`url` is where to push to on this machine; empty where nobody said."""
    container, http = branch.spec.handler.container, branch.spec.handler.http
    if container is not None:
        if not url:
            raise CommandError(
                f"{branch.manifest.file}: {branch.handler}.container: image {container.image!r} is not started on this"
                " machine: start it yourself and say where it listens:"
                f" --container {branch.name}=http://127.0.0.1:{container.port}",
                Exit.INVALID,
            )
        return Place(url=with_path(url, container.path), networks=PRIVATE_NETWORKS)
    if http is None:
        return Place()
    keys = ""
    if http.signing_secret_ref is not None:
        keys = _keys_file(branch, http.signing_secret_ref, folder)
    if not url:
        return Place(signing_keys_file=keys)
    return Place(keys, with_path(url, path_of(http.url)), (*LOOPBACK, *PRIVATE_NETWORKS))


def _keys_file(branch: _Branch, wanted: SigningSecretRef, folder: Path) -> str:
    field, file = f"{branch.handler}.http.signingSecretRef", folder / branch.name.replace("/", ".")
    try:
        return keys_file(wanted, field, branch.manifest.secrets, file)
    except ManifestError as error:
        raise CommandError(f"{branch.manifest.file}: {error}", Exit.INVALID) from error

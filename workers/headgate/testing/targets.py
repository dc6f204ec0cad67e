"""What handles each branch's events in a test: the manifest's function, a replacement, or a service that runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.contract import HttpContract
from headgate.handlers.addresses import LOOPBACK, PRIVATE_NETWORKS
from headgate.handlers.base import HandlerLoadError
from headgate.handlers.load import load_handler
from headgate.handlers.python import load_function
from headgate.testing.functions import FunctionHandler
from headgate_operator.nearby import keys_file, path_of, with_path
from headgate_operator.pipeline import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from headgate.contract import BranchContract
    from headgate.handlers import Handler
    from headgate.testing.manifests import Manifest
    from headgate_operator.api import BranchSpec
    from headgate_operator.pipeline import Pipeline

    Replacement = Callable[[Any], Any] | str


def by_branch(manifest: Manifest, given: Mapping[str, Replacement]) -> dict[tuple[str, str], Replacement]:
    """The replacements by pipeline and branch; raises ValueError for one that is for no branch, or for several."""
    places = [(str(each), branch) for each in manifest.pipelines for branch in each.branch_names]
    found: dict[tuple[str, str], Replacement] = {}
    for name, replacement in given.items():
        meant = [
            (pipeline, branch)
            for pipeline, branch in places
            if name in (branch, f"{pipeline.partition('/')[2]}/{branch}", f"{pipeline}/{branch}")
        ]
        if len(meant) != 1:
            names = [f"{pipeline.partition('/')[2]}/{branch}" for pipeline, branch in meant or places]
            what = "is in several pipelines" if meant else "is no branch"
            raise ValueError(f"handlers: {name!r} {what}; give one of {', '.join(names)}")
        if not (callable(replacement) or isinstance(replacement, str)):
            raise TypeError(
                f"handlers: {name!r}: {replacement!r} is neither a function nor the URL of a service"
            )
        found[meant[0]] = replacement
    return found


class Targets:
    """Makes handlers; `keys_folder` is where the keys are kept that pushes are signed with."""

    def __init__(self, manifest: Manifest, given: Mapping[str, Replacement], keys_folder: Path) -> None:
        self._manifest = manifest
        self._given = by_branch(manifest, given)
        self._keys_folder = keys_folder

    def handler(self, pipeline: Pipeline, branch: str, contract: BranchContract) -> Handler:
        """The handler of a branch, whose contract is as the manifest has it.

        Raises HandlerLoadError for a function that cannot be imported from the manifest's folder, ManifestError for a
        URL or container that nothing stands in for.
        """
        given = self._given.get((str(pipeline), branch))
        if given is None and contract.function:
            return FunctionHandler(self._import(contract.function), contract.concurrency)
        if callable(given):
            return FunctionHandler(given, contract.concurrency)
        spec = pipeline.branch(branch)
        field = f"spec.branches[{pipeline.branch_names.index(branch)}].handler"
        if given is None:
            what = "http" if spec.handler.http is not None else "container"
            raise ManifestError(
                f"{field}.{what}: nothing is pushed to from a test by itself: give a function that stands in for it,"
                f" handlers={{{branch!r}: function}}, or the URL of a service that runs, handlers={{{branch!r}:"
                " 'http://127.0.0.1:8080/'}"
            )
        return load_handler(self._pushing(pipeline, spec, field, contract, given))

    def _import(self, function: str) -> Callable[[Any], Any]:
        """Imports from the manifest's folder; what another folder's module of the same name is, is not taken for it."""
        found = load_function(function)
        name = function.partition(":")[0]
        wanted = self._manifest.folder.joinpath(*name.split(".")).with_suffix(".py")
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if wanted.exists() and loaded is not None and not wanted.samefile(loaded):
            raise HandlerLoadError(
                f"function {function!r}: module {name!r} was imported from {loaded} before, and not from {wanted}: give"
                " the modules of one test run names of their own"
            )
        return found

    def _pushing(
        self, pipeline: Pipeline, spec: BranchSpec, field: str, contract: BranchContract, url: str
    ) -> BranchContract:
        container, http = spec.handler.container, spec.handler.http
        path, keys = "", ""
        if container is not None:
            path = container.path
        if http is not None:
            path = path_of(http.url)
            if (wanted := http.signing_secret_ref) is not None:
                file = self._keys_folder / f"{pipeline.name}.{spec.name}"
                keys = keys_file(wanted, f"{field}.http.signingSecretRef", self._manifest.secrets, file)
        pushing = contract.http or HttpContract(url="")
        pushing = msgspec.structs.replace(
            pushing,
            url=with_path(url, path),
            allow_networks=(*pushing.allow_networks, *LOOPBACK, *PRIVATE_NETWORKS),
            signing_keys_file=keys,
        )
        return msgspec.structs.replace(contract, function="", http=pushing)

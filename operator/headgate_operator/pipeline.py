"""A pipeline as the control plane works with it: identity, typed spec, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from headgate.streams.keys import PipelineKeys
from headgate_operator import contracts
from headgate_operator.api import API_VERSION, KIND, BranchSpec, FanoutPipelineSpec, RedisSpec
from headgate_operator.logins import ROTATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.contract import BranchContract, JoinContract
    from headgate.streams.settings import SourceSettings


class ManifestError(ValueError):
    """The manifest is no FanoutPipeline this version can load; names each field at fault, one a line."""


@dataclass(frozen=True)
class Pipeline:
    """One FanoutPipeline. `uid` is empty on this machine, where nothing has one.

    `draining` names branches that its spec has no more and that still take what had been published before; None when
    the server could not be asked, so that any branch may be one. `growing` names ordered branches that wait on new
    partitions until they are through with the old ones.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: FanoutPipelineSpec
    draining: frozenset[str] | None = frozenset()
    growing: frozenset[str] = frozenset()
    rotation: str = ""
    """The value of the annotation that asks for another password."""
    is_held: bool = False
    """Whether its manifest has mistakes, so that groups and workers stay as they are and only their number follows."""

    def leaving(self, draining: frozenset[str] | None) -> Pipeline:
        """The same with other branches on their way out."""
        return replace(self, draining=draining)

    def waiting(self, growing: frozenset[str]) -> Pipeline:
        """The same with other branches that wait on new partitions."""
        return replace(self, growing=growing)

    def held(self) -> Pipeline:
        """The same, of a manifest that must not be applied."""
        return replace(self, is_held=True)

    @property
    def is_changing(self) -> bool:
        """Whether branches are on their way out, or wait on new partitions."""
        return self.draining is None or bool(self.draining or self.growing)

    def drains(self, branch: str) -> bool:
        """Whether a branch may be on its way out, so that its workers have to stay."""
        return self.draining is None or branch in self.draining

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @cached_property
    def keys(self) -> PipelineKeys:
        """The names of its keys in Redis."""
        return PipelineKeys(self.namespace, self.name, self.spec.source.partitions)

    @property
    def branch_names(self) -> tuple[str, ...]:
        """Names of its branches, in the manifest's order."""
        return tuple(branch.name for branch in self.spec.branches)

    @property
    def measured_names(self) -> tuple[str, ...]:
        """Names of all branches that have events to settle: those of its spec, and those on their way out."""
        return (*self.branch_names, *sorted(self.draining or ()))

    def branch(self, name: str) -> BranchSpec:
        """The branch of that name; raises KeyError when there is none."""
        for branch in self.spec.branches:
            if branch.name == name:
                return branch
        raise KeyError(f"pipeline {self}: no branch {name!r}; it has {', '.join(self.branch_names)}")

    @property
    def source(self) -> SourceSettings:
        """What publishers and sweeps have to know of its source."""
        return contracts.source(self.spec.source)

    @property
    def join(self) -> JoinContract | None:
        """What the data plane needs to know of its join; None when it has none."""
        return None if self.spec.join is None else contracts.join(self.spec.join)

    def contract(self, branch: str, place: contracts.Place = contracts.NOWHERE) -> BranchContract:
        """What a worker of that branch is started with, where it runs; raises KeyError when there is no such branch.

        Its join is None unless the branch takes part in it.
        """
        spec = self.branch(branch)
        join = self.join if self.join is not None and branch in self.join.branches else None
        return contracts.branch(
            self.keys, self.spec.source, spec, join, backpressure=self.spec.backpressure, place=place
        )


def load_pipeline(manifest: Mapping[str, Any]) -> Pipeline:
    """The pipeline of a manifest or of the API server's object; in namespace `default` when it names none.

    Checks types, bounds and required fields; `validation.validate` checks everything and words it for people.
    Raises ManifestError.
    """
    found = (manifest.get("apiVersion"), manifest.get("kind"))
    if found != (API_VERSION, KIND):
        raise ManifestError(f"apiVersion, kind: {found[0]}, {found[1]}: must be {API_VERSION}, {KIND}")
    metadata = manifest.get("metadata") or {}
    if not metadata.get("name"):
        raise ManifestError("metadata.name: Required value: give the pipeline a name")
    try:
        spec = FanoutPipelineSpec.model_validate(manifest.get("spec") or {})
    except ValidationError as error:
        raise ManifestError(
            "\n".join(
                f"{'.'.join(('spec', *map(str, problem['loc'])))}: {problem['msg']}"
                for problem in error.errors()
            )
        ) from error
    return Pipeline(
        namespace=metadata.get("namespace") or "default",
        name=metadata["name"],
        uid=metadata.get("uid") or "",
        generation=metadata.get("generation") or 0,
        spec=spec,
        rotation=(metadata.get("annotations") or {}).get(ROTATE, ""),
    )


def remains(manifest: Mapping[str, Any]) -> Pipeline:
    """What of an object that `load_pipeline` refuses is needed to take it down: its name, and its server.

    Where that cannot be read either it is the operator's own. It has no branches, and nothing of it is to be applied.
    """
    try:
        redis = RedisSpec.model_validate((manifest.get("spec") or {}).get("redis"))
    except ValidationError:
        redis = None
    metadata = manifest["metadata"]
    return Pipeline(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation") or 0,
        spec=FanoutPipelineSpec.model_construct(redis=redis, branches=[]),
        is_held=True,
    )

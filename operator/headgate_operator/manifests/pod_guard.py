"""What a branch may make of its pods: nothing that gives them rights on their node, or unmakes the worker's wiring.

An overlay is held against a list of what it may set (`pod_members`), not of what it may not. The pod that comes out is
checked once more, against the Pod Security Standard `restricted`. An operator that is told to (worker.allowPrivileged
of the chart) lets through all but the worker's own wiring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate_operator.manifests.containers import HANDLER, WORKER
from headgate_operator.manifests.pod_members import (
    ASK,
    NEW,
    NEW_INIT,
    OF_HANDLER,
    OWN,
    OWNED,
    POD,
    REMEDIES_OF_POD,
    VOLUME,
)
from headgate_operator.manifests.pod_security import violations
from headgate_operator.manifests.shapes import Shape, anything, items, members, refused
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate_operator.api import BranchSpec, PodSpec
    from headgate_operator.field_error import FieldError
    from headgate_operator.pipeline import Pipeline

OURS = "headgate-"
"""Names of volumes that begin so are the operator's."""
OUR_LABELS = ("headgate.dev/", "app.kubernetes.io/")
OUR_ANNOTATIONS = ("headgate.dev/", "controller.kubernetes.io/")
_ARMOR = "container.apparmor.security.beta.kubernetes.io/"


@dataclass(frozen=True)
class PodRules:
    """What the operator that makes the pods allows."""

    privileged: bool = False
    """Whether overlays and volumes may give pods rights on their node."""
    operator_account: tuple[str, str] | None = None
    """Namespace and name of the operator's own ServiceAccount."""


def check_pod(pipeline: Pipeline, branch: BranchSpec, rules: PodRules) -> None:
    """Raises Problem that names every field of a branch's `pod` that may not be as it is, its value and what to do."""
    own = {
        "containers": (WORKER,),
        "initContainers": (HANDLER,) if branch.handler.container is not None else (),
    }
    path = f"spec.branches[{pipeline.branch_names.index(branch.name)}].pod"
    found = pod_refusals(branch.pod, path, own, privileged=rules.privileged)
    account = branch.pod.service_account_name
    if account is not None and (pipeline.namespace, account) == rules.operator_account:
        why = "is the operator's own, which may change every pipeline"
        found.append(refused(account, f"{path}.serviceAccountName", why, "make another for the workers"))
    _raise(found)


def check_result(pipeline: Pipeline, branch: BranchSpec, pod: Mapping[str, Any], rules: PodRules) -> None:
    """Raises Problem when the pod that came out does not conform to the standard, whatever let it through."""
    broken = [] if rules.privileged else violations(pod)
    if broken:
        path = f"spec.branches[{pipeline.branch_names.index(branch.name)}].pod.overlay"
        why = f"makes a pod that breaks the Pod Security Standard `restricted` at {', '.join(broken)}"
        _raise([refused(branch.pod.overlay, path, why, ASK)])


def _raise(found: Sequence[FieldError]) -> None:
    if found:
        raise Problem("PodRefused", "\n".join(map(str, found)))


def pod_refusals(
    pod: PodSpec, path: str, own: Mapping[str, Sequence[str]], *, privileged: bool
) -> list[FieldError]:
    """Everything in a branch's `pod` that it may not set; empty when there is nothing.

    `path` is the field's, such as `spec.branches[0].pod`; `own` names the containers that the operator makes of the
    branch, by the list that has them.
    """
    found = [*_metadata(pod.labels, f"{path}.labels", OUR_LABELS)]
    found += _metadata(pod.annotations, f"{path}.annotations", OUR_ANNOTATIONS)
    for number, volume in enumerate(pod.volumes):
        given = volume.model_dump(mode="json", by_alias=True, exclude_none=True)
        found += _volume(given, f"{path}.volumes[{number}]", privileged=privileged)
    if pod.overlay is not None:
        found += _overlay(pod.overlay, f"{path}.overlay", own, privileged=privileged)
    return found


def _overlay(
    overlay: Mapping[str, Any], path: str, own: Mapping[str, Sequence[str]], *, privileged: bool
) -> Iterator[FieldError]:
    yield from _nulls(overlay, path)

    def volume(value: Any, at: str) -> Iterator[FieldError]:
        yield from _volume(value, at, privileged=privileged)

    ours: Mapping[str, Shape] = {
        "containers": items(_container(NEW, own["containers"], privileged=privileged)),
        "initContainers": items(_container(NEW_INIT, own["initContainers"], privileged=privileged)),
        "volumes": items(volume),
    }
    if not privileged:
        yield from members({**POD, **ours}, remedies=REMEDIES_OF_POD, otherwise=ASK)(overlay, path)
        return
    for name, value in overlay.items():
        if name in REMEDIES_OF_POD:
            yield refused(value, f"{path}.{name}", "may not be set here", REMEDIES_OF_POD[name])
        elif name in ours:
            yield from ours[name](value, f"{path}.{name}")


def _container(added: Shape, own: Sequence[str], *, privileged: bool) -> Shape:
    """One of a list of containers in which those named `own` are the operator's; others are `added`."""

    def check(value: Any, path: str) -> Iterator[FieldError]:
        name = value.get("name") if isinstance(value, dict) else None
        if name in own:
            yield from (_own_privileged if privileged else OWN)(value, path)
        elif name in (WORKER, HANDLER):
            yield refused(name, f"{path}.name", "is the name of a container of the operator's", "rename it")
        else:
            yield from (_named if privileged else added)(value, path)

    return check


def _own_privileged(value: Any, path: str) -> Iterator[FieldError]:
    for name, found in value.items():
        if name not in ("name", "securityContext"):
            remedy = OF_HANDLER.get(name, OWNED)
            yield refused(found, f"{path}.{name}", "may not be set here", remedy)


def _named(value: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        yield refused(value, path, "must be an object with a name", "give it one")


def _volume(value: Any, path: str, *, privileged: bool) -> Iterator[FieldError]:
    yield from _named(value, path) if privileged else VOLUME(value, path)
    name = value.get("name") if isinstance(value, dict) else None
    if isinstance(name, str) and name.startswith(OURS):
        yield refused(name, f"{path}.name", f"names that begin with {OURS} are the operator's", "rename it")


def _nulls(value: Any, path: str) -> Iterator[FieldError]:
    """Nulls and patch directives at any depth: merged, they would remove or replace what is there."""
    if value is None:
        yield from anything(value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _nulls(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, found in value.items():
            if name.startswith("$"):
                yield refused(found, f"{path}.{name}", "is a patch directive", "write what is to be there")
            yield from _nulls(found, f"{path}.{name}")


def _metadata(given: Mapping[str, str] | None, path: str, ours: tuple[str, ...]) -> Iterator[FieldError]:
    for name, value in (given or {}).items():
        if name.startswith(ours):
            yield refused(
                value, f"{path}[{name!r}]", f"{ours[0]}… and {ours[1]}… are the operator's", "rename it"
            )
        elif name.startswith(_ARMOR) and value != "runtime/default" and not value.startswith("localhost/"):
            yield refused(value, f"{path}[{name!r}]", "takes the container's profile away", ASK)

"""The containers of a branch's pods: the worker, and beside it the user's own where that handles the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_operator.contracts import Place
from headgate_operator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from headgate_operator.api import BranchSpec, ContainerHandler, PodSpec, SigningSecretRef
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline

WORKER = "worker"
HANDLER = "handler"
HTTP_PORT = 9100
_OF_BOTH = ("OTEL_", "HEADGATE_")
_SCRATCH = "headgate-tmp"
_SIGNING = "headgate-signing"
_SIGNING_FOLDER = "/var/run/headgate/signing"
IN_POD = Place(signing_keys_file=f"{_SIGNING_FOLDER}/keys")
"""Where workers find things in a pod."""


def worker(pipeline: Pipeline, branch: BranchSpec, redis: RedisSource, pushing_image: str | None) -> Manifest:
    """The worker's container.

    `pushing_image` runs the workers of branches whose handler has no worker in its image, or no image at all. Raises
    Problem when it is needed and None.
    """
    python = branch.handler.python
    image = python.image if python is not None else pushing_image
    if image is None:
        raise Problem(
            "NoWorkerImage",
            f"spec.branches: {branch.name!r} pushes its events, and the operator was not told which image does that:"
            " set worker.image of the chart, or HEADGATE_WORKER_IMAGE of the operator",
        )
    settings = _settings(branch.pod)
    if branch.handler.container is not None:
        # The rest is for the code in the branch's own container; logs and traces are of both.
        settings = {"env": [each for each in settings.get("env", ()) if each["name"].startswith(_OF_BOTH)]}
    return settings | {
        "name": WORKER,
        "image": image,
        "command": ["headgate"],
        "args": ["worker", *(("--function", python.function) if python is not None else ())],
        "env": _env(pipeline, branch, redis, settings.get("env", ())),
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "volumeMounts": _mounts(branch),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Start-up imports the handler's module, which may take a while; after it, readiness is wanted at once.
        "startupProbe": _probe("/healthz", period=1, failures=120, delay=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
    }


def beside(branch: BranchSpec) -> list[Manifest]:
    """The user's own container, as a sidecar: it starts before the worker and ends after it has drained.

    It is not probed: the worker waits until it listens, and it may do so on localhost only, where no probe comes.
    """
    handler = branch.handler.container
    return [] if handler is None else [_sidecar(handler, branch.pod)]


def volumes(branch: BranchSpec) -> list[Manifest]:
    """The pod's volumes: the branch's own, and what the worker needs besides."""
    found = dump(branch.pod.volumes)
    if any(mount["name"] == _SCRATCH for mount in _mounts(branch)):
        found.append({"name": _SCRATCH, "emptyDir": {}})
    if (signing := _signing(branch)) is not None:
        # As a file and not a variable: the kubelet writes a rotated key there while the worker runs.
        items = [{"key": signing.key, "path": "keys"}]
        found.append({"name": _SIGNING, "secret": {"secretName": signing.name, "items": items}})
    return found


def dump(models: Sequence[BaseModel]) -> list[Manifest]:
    """Models of the API as a manifest has them."""
    return [model.model_dump(mode="json", by_alias=True, exclude_none=True) for model in models]


def _sidecar(handler: ContainerHandler, pod: PodSpec) -> Manifest:
    optional = {"command": list(handler.command), "args": list(handler.args)}
    return (
        _settings(pod)
        | {
            "name": HANDLER,
            "image": handler.image,
            "restartPolicy": "Always",
            "ports": [{"name": "events", "containerPort": handler.port, "protocol": "TCP"}],
            # Its root file system stays writable: an image that is not ours may count on that.
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        | {name: value for name, value in optional.items() if value}
    )


def _settings(pod: PodSpec) -> Manifest:
    """What a branch sets of the container that runs its code."""
    found: Mapping[str, Any] = {
        "env": dump(pod.env),
        "envFrom": dump(pod.env_from),
        "volumeMounts": dump(pod.volume_mounts),
        "resources": pod.resources and dump([pod.resources])[0],
        "imagePullPolicy": pod.image_pull_policy and pod.image_pull_policy.value,
    }
    return {name: value for name, value in found.items() if value}


def _env(
    pipeline: Pipeline, branch: BranchSpec, redis: RedisSource, given: Sequence[Manifest]
) -> list[Manifest]:
    ours: list[Manifest] = [
        {"name": "HEADGATE_CONTRACT", "value": pipeline.contract(branch.name, IN_POD).encode()},
        {
            "name": "HEADGATE_REDIS_URL",
            "valueFrom": {"secretKeyRef": {"name": redis.secret, "key": redis.key}},
        },
        {"name": "HEADGATE_CONSUMER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "HEADGATE_HTTP_PORT", "value": str(HTTP_PORT)},
    ]
    # A name may stand in the list once only; the worker's own wiring is not the manifest's to change.
    taken = {variable["name"] for variable in ours}
    return ours + [variable for variable in given if variable["name"] not in taken]


def _mounts(branch: BranchSpec) -> list[Manifest]:
    """What is mounted into the worker."""
    found = [] if branch.handler.container is not None else dump(branch.pod.volume_mounts)
    if all(mount["mountPath"].rstrip("/") != "/tmp" for mount in found):  # noqa: S108
        found.append({"name": _SCRATCH, "mountPath": "/tmp"})  # noqa: S108
    if _signing(branch) is not None:
        found.append({"name": _SIGNING, "mountPath": _SIGNING_FOLDER, "readOnly": True})
    return found


def _signing(branch: BranchSpec) -> SigningSecretRef | None:
    return branch.handler.http.signing_secret_ref if branch.handler.http is not None else None


def _probe(path: str, *, period: int, failures: int, delay: int = 0) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    } | ({"initialDelaySeconds": delay} if delay else {})

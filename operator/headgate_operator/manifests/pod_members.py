"""What an overlay may set, member by member, of a pod, its containers and its volumes; with what to do about the rest.

What Kubernetes adds tomorrow is not among it until somebody has looked at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_operator.manifests.pod_security import (
    ADDABLE_CAPABILITIES,
    SECCOMP_TYPES,
    SELINUX_TYPES,
    VOLUME_SOURCES,
)
from headgate_operator.manifests.shapes import (
    Shape,
    anything,
    items,
    members,
    one_of,
    refused,
    text,
    truth,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate_operator.field_error import FieldError

ASK = "remove it, or have it allowed for all pipelines (worker.allowPrivileged of the chart)"
OWNED = "the operator sets it"
_ROOT = "name a user other than root, as 1000"

REMEDIES_OF_POD = {
    "nodeSelector": "use pod.nodeSelector",
    "tolerations": "use pod.tolerations",
    "imagePullSecrets": "use pod.imagePullSecrets",
    "serviceAccountName": "use pod.serviceAccountName",
    "serviceAccount": "use pod.serviceAccountName",
    "terminationGracePeriodSeconds": f"{OWNED}, so that workers can drain: see timeoutSeconds of the branch",
    "restartPolicy": OWNED,
    "ephemeralContainers": "they go into running pods: use kubectl debug",
}
OF_HANDLER = dict.fromkeys(
    (
        *("image", "command", "args", "env", "envFrom", "ports", "resources", "volumeMounts"),
        *("imagePullPolicy", "livenessProbe", "readinessProbe", "startupProbe", "restartPolicy"),
        *("workingDir", "lifecycle"),
    ),
    f"{OWNED}: see handler and pod of the branch",
)
"""What is not an overlay's to set of the operator's own containers, and what to do instead."""


def _drop(value: Any, path: str) -> Iterator[FieldError]:
    yield from items(text)(value, path)
    if isinstance(value, list) and "ALL" not in value:
        yield refused(value, path, "must have ALL", ASK)


_PROFILE = members(
    {"type": one_of(*SECCOMP_TYPES, remedy=ASK), "localhostProfile": text}, required=("type",), otherwise=ASK
)
_OF_BOTH: Mapping[str, Shape] = {
    "runAsNonRoot": one_of(True, remedy=ASK),
    "runAsUser": whole(1, _ROOT),
    "runAsGroup": whole(0, "give a group's number"),
    "seccompProfile": _PROFILE,
    "appArmorProfile": _PROFILE,
    "seLinuxOptions": members({"type": one_of(*SELINUX_TYPES, remedy=ASK), "level": text}, otherwise=ASK),
}
SECURITY_OF_POD = members(
    {
        **_OF_BOTH,
        "fsGroup": whole(0, "give a group's number"),
        "fsGroupChangePolicy": text,
        "supplementalGroups": items(whole(0, "give groups' numbers")),
        "supplementalGroupsPolicy": text,
    },
    otherwise=ASK,
)
_SECURITY = members(
    {
        **_OF_BOTH,
        "allowPrivilegeEscalation": one_of(False, remedy=ASK),
        "privileged": one_of(False, remedy=ASK),
        "procMount": one_of("Default", remedy=ASK),
        "readOnlyRootFilesystem": truth,
        "capabilities": members(
            {"add": items(one_of(*ADDABLE_CAPABILITIES, remedy=ASK)), "drop": _drop}, otherwise=ASK
        ),
    },
    otherwise=ASK,
)
_REQUEST = {"port": anything, "path": text, "scheme": text, "httpHeaders": anything}
_ACTION: Mapping[str, Shape] = {
    "httpGet": members(_REQUEST),
    "tcpSocket": members({"port": anything}),
    "grpc": anything,
    "exec": anything,
    "sleep": anything,
}
_TIMES = (
    *("initialDelaySeconds", "periodSeconds", "timeoutSeconds"),
    *("successThreshold", "failureThreshold", "terminationGracePeriodSeconds"),
)
_PROBE = members({**_ACTION, **dict.fromkeys(_TIMES, anything)})
_ADDED: Mapping[str, Shape] = {
    **dict.fromkeys(("name", "image", "workingDir", "imagePullPolicy", "terminationMessagePolicy"), text),
    **dict.fromkeys(("command", "args"), items(text)),
    **dict.fromkeys(("resources", "terminationMessagePath"), anything),
    "env": items(members({"name": text, "value": text, "valueFrom": anything}, required=("name",))),
    "envFrom": items(anything),
    "ports": items(
        members(
            {"name": text, "containerPort": whole(1, "give the port's number"), "protocol": text},
            required=("containerPort",),
            otherwise=ASK,
        )
    ),
    "volumeMounts": items(
        members(
            {
                **dict.fromkeys(("name", "mountPath", "subPath", "subPathExpr"), text),
                "readOnly": truth,
                "recursiveReadOnly": text,
            },
            required=("name", "mountPath"),
            otherwise=ASK,
        )
    ),
    "securityContext": _SECURITY,
    "lifecycle": members(
        {"postStart": members(_ACTION), "preStop": members(_ACTION), "stopSignal": text}, otherwise=ASK
    ),
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
}
NEW = members(_ADDED, required=("name", "image"), otherwise=ASK)
NEW_INIT = members({**_ADDED, "restartPolicy": one_of("Always")}, required=("name", "image"), otherwise=ASK)
OWN = members({"name": text, "securityContext": _SECURITY}, remedies=OF_HANDLER, otherwise=ASK)
_SOURCES: Mapping[str, Shape] = {
    **dict.fromkeys(VOLUME_SOURCES, anything),
    "projected": members(
        {
            "sources": items(
                members(dict.fromkeys(("configMap", "secret", "downwardAPI"), anything), otherwise=ASK)
            ),
            "defaultMode": anything,
        },
        otherwise=ASK,
    ),
}
VOLUME = members({"name": text, **_SOURCES}, required=("name",), otherwise=ASK)


def _priority(value: Any, path: str) -> Iterator[FieldError]:
    yield from text(value, path)
    if isinstance(value, str) and value.startswith("system-"):
        yield refused(value, path, "is for what the cluster itself needs", "name a class of your own")


POD: Mapping[str, Shape] = {
    **dict.fromkeys(
        ("affinity", "topologySpreadConstraints", "dnsConfig", "hostAliases", "resources"), anything
    ),
    **dict.fromkeys(("runtimeClassName", "schedulerName", "preemptionPolicy"), text),
    "dnsPolicy": one_of("ClusterFirst", "Default", "None"),
    "priorityClassName": _priority,
    "securityContext": SECURITY_OF_POD,
}
"""What an overlay may set beside containers and volumes."""

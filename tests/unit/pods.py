"""Overlays of pods: what a branch may add, what it may not, and what nobody may."""

from __future__ import annotations

from typing import Any

SIDECAR = {"name": "log", "image": "log:1"}


def of_sidecar(**members: Any) -> dict[str, Any]:
    """An overlay with one more container."""
    return {"containers": [SIDECAR | members]}


def of_worker(**members: Any) -> dict[str, Any]:
    """An overlay of the worker's container."""
    return {"containers": [{"name": "worker"} | members]}


ALLOWED: dict[str, dict[str, Any]] = {
    "priority": {"priorityClassName": "batch"},
    "affinity": {
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"a": "b"}},
                        },
                    }
                ]
            }
        }
    },
    "spread": {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ]
    },
    "runtime class": {"runtimeClassName": "gvisor"},
    "names": {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.10"]},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["store"]}],
    },
    "user": {
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 0,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "supplementalGroups": [2000],
            "seLinuxOptions": {"level": "s0:c1,c2"},
        }
    },
    "worker's user": of_worker(securityContext={"runAsUser": 1000, "runAsNonRoot": True}),
    "a low port": of_worker(securityContext={"capabilities": {"add": ["NET_BIND_SERVICE"]}}),
    "sidecar": of_sidecar(
        command=["log"],
        args=["--to", "stdout"],
        env=[{"name": "LEVEL", "value": "info"}],
        envFrom=[{"secretRef": {"name": "log"}}],
        ports=[{"containerPort": 8080, "name": "web"}],
        resources={"limits": {"memory": "64Mi"}},
        volumeMounts=[{"name": "spool", "mountPath": "/spool", "readOnly": True}],
        livenessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 5},
        lifecycle={"preStop": {"exec": {"command": ["sync"]}}},
        securityContext={
            "runAsUser": 2000,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    )
    | {"volumes": [{"name": "spool", "emptyDir": {}}]},
    "init container": {
        "initContainers": [
            {"name": "warm", "image": "warm:1"},
            {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"},
        ]
    },
    "volumes": {
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings"}},
            {
                "name": "both",
                "projected": {"sources": [{"secret": {"name": "a"}}, {"configMap": {"name": "b"}}]},
            },
        ]
    },
}
"""What a branch may add; each makes a pod that conforms to the Pod Security Standard `restricted`."""

_ROOT = {"runAsUser": 0}
FORBIDDEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "network": ({"hostNetwork": True}, "hostNetwork", "true"),
    "processes": ({"hostPID": True}, "hostPID", "true"),
    "ipc": ({"hostIPC": True}, "hostIPC", "true"),
    "sysctls": (
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}},
        "securityContext.sysctls",
        '[{"name":"kernel.msgmax","value":"65536"}]',
    ),
    "root": ({"securityContext": _ROOT}, "securityContext.runAsUser", "0"),
    "any user": ({"securityContext": {"runAsNonRoot": False}}, "securityContext.runAsNonRoot", "false"),
    "no seccomp": (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        "securityContext.seccompProfile.type",
        '"Unconfined"',
    ),
    "no apparmor": (
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        "securityContext.appArmorProfile.type",
        '"Unconfined"',
    ),
    "selinux type": (
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        "securityContext.seLinuxOptions.type",
        '"spc_t"',
    ),
    "selinux user": (
        {"securityContext": {"seLinuxOptions": {"user": "system_u"}}},
        "securityContext.seLinuxOptions.user",
        '"system_u"',
    ),
    "disk": (
        {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        "volumes[0].hostPath",
        '{"path":"/"}',
    ),
    "nfs": (
        {"volumes": [{"name": "share", "nfs": {"server": "a", "path": "/"}}]},
        "volumes[0].nfs",
        '{"path":"/","server":"a"}',
    ),
    "worker as root": (of_worker(securityContext=_ROOT), "containers[0].securityContext.runAsUser", "0"),
    "sidecar as root": (of_sidecar(securityContext=_ROOT), "containers[0].securityContext.runAsUser", "0"),
    "init container as root": (
        {"initContainers": [SIDECAR | {"securityContext": _ROOT}]},
        "initContainers[0].securityContext.runAsUser",
        "0",
    ),
    "escalation": (
        of_worker(securityContext={"allowPrivilegeEscalation": True}),
        "containers[0].securityContext.allowPrivilegeEscalation",
        "true",
    ),
    "privileged": (
        of_sidecar(securityContext={"privileged": True, "allowPrivilegeEscalation": True}),
        "containers[0].securityContext.privileged",
        "true",
    ),
    "capability": (
        of_sidecar(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "containers[0].securityContext.capabilities.add[0]",
        '"SYS_ADMIN"',
    ),
    "capabilities kept": (
        of_worker(securityContext={"capabilities": {"drop": ["CHOWN"]}}),
        "containers[0].securityContext.capabilities.drop",
        '["CHOWN"]',
    ),
    "port of the node": (
        of_sidecar(ports=[{"containerPort": 80, "hostPort": 80}]),
        "containers[0].ports[0].hostPort",
        "80",
    ),
}
"""What gives a pod rights on its node: the overlay, the field that is refused and its value."""

WIRING: dict[str, tuple[dict[str, Any], str]] = {
    "command": (of_worker(command=["sh"]), "containers[0].command"),
    "arguments": (of_worker(args=["-c"]), "containers[0].args"),
    "image": (of_worker(image="mine:1"), "containers[0].image"),
    "contract": (of_worker(env=[{"name": "HEADGATE_CONTRACT", "value": "x"}]), "containers[0].env"),
    "probe": (of_worker(readinessProbe={"exec": {"command": ["true"]}}), "containers[0].readinessProbe"),
    "account": ({"serviceAccountName": "admin"}, "serviceAccountName"),
    "old account": ({"serviceAccount": "admin"}, "serviceAccount"),
    "grace": ({"terminationGracePeriodSeconds": 0}, "terminationGracePeriodSeconds"),
    "debug container": ({"ephemeralContainers": [SIDECAR]}, "ephemeralContainers"),
    "our volume": ({"volumes": [{"name": "headgate-tmp", "emptyDir": {}}]}, "volumes[0].name"),
    "null": ({"securityContext": None}, "securityContext"),
    "null within": ({"securityContext": {"runAsNonRoot": None}}, "securityContext.runAsNonRoot"),
    "directive": ({"$patch": "replace"}, "$patch"),
    "directive within": ({"containers": [SIDECAR, {"$patch": "replace"}]}, "containers[1].$patch"),
    "no name": ({"volumes": [{"name": 1, "emptyDir": {}}]}, "volumes[0]"),
    "the worker elsewhere": (
        {"initContainers": [{"name": "worker", "image": "x"}]},
        "initContainers[0].name",
    ),
    "not a list": ({"containers": {"name": "worker", "image": "x"}}, "containers"),
    "not an object": ({"volumes": ["x"]}, "volumes[0]"),
}
"""What nobody may change, and the field that is refused."""

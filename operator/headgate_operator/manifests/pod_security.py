"""The Pod Security Standard `restricted`, as Kubernetes' own admission checks it: what about a pod violates it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/. Pure; tests hold it against the admission plugin
of a real API server. Takes any JSON, however wrong its types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VOLUME_SOURCES = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
        *("persistentVolumeClaim", "projected", "secret"),
    }
)
SECCOMP_TYPES = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t")
ADDABLE_CAPABILITIES = ("NET_BIND_SERVICE",)
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: Mapping[str, Any]) -> list[str]:
    """Paths of everything in a pod spec that the standard forbids or misses; empty when it conforms."""
    security = _object(pod.get("securityContext"))
    found = [f"{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    found += _of_volumes(pod)
    if security.get("sysctls"):
        found.append("securityContext.sysctls")
    found += [f"securityContext.{each}" for each in _of_options(security)]
    for kind in _CONTAINERS:
        for number, container in enumerate(_list(pod.get(kind))):
            found += [f"{kind}[{number}].{each}" for each in _of_container(container, security)]
    return found


def _of_volumes(pod: Mapping[str, Any]) -> Iterator[str]:
    for number, volume in enumerate(_list(pod.get("volumes"))):
        for source in volume.keys() - VOLUME_SOURCES - {"name"}:
            yield f"volumes[{number}].{source}"


def _of_container(container: Mapping[str, Any], of_pod: Mapping[str, Any]) -> Iterator[str]:
    security = _object(container.get("securityContext"))
    if security.get("privileged"):
        yield "securityContext.privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation"
    capabilities = _object(security.get("capabilities"))
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "securityContext.capabilities.drop"
    if not set(capabilities.get("add") or ()) <= set(ADDABLE_CAPABILITIES):
        yield "securityContext.capabilities.add"
    if security.get("procMount") not in (None, "Default"):
        yield "securityContext.procMount"
    if _effective("runAsNonRoot", security, of_pod) is not True:
        yield "securityContext.runAsNonRoot"
    if _effective("seccompProfile", security, of_pod) is None:
        yield "securityContext.seccompProfile"
    yield from (f"securityContext.{each}" for each in _of_options(security))
    for number, port in enumerate(_list(container.get("ports"))):
        if port.get("hostPort"):
            yield f"ports[{number}].hostPort"
    yield from _of_hosts(container)


def _of_options(security: Mapping[str, Any]) -> Iterator[str]:
    """What pods and containers set alike."""
    user = security.get("runAsUser")
    if user is not None and user == 0:
        yield "runAsUser"
    if security.get("runAsNonRoot") is False:
        yield "runAsNonRoot"
    if _object(security.get("windowsOptions")).get("hostProcess"):
        yield "windowsOptions.hostProcess"
    seccomp = security.get("seccompProfile")
    if seccomp is not None and _object(seccomp).get("type") not in SECCOMP_TYPES:
        yield "seccompProfile.type"
    armor = security.get("appArmorProfile")
    if armor is not None and _object(armor).get("type") not in SECCOMP_TYPES:
        yield "appArmorProfile.type"
    selinux = _object(security.get("seLinuxOptions"))
    if (selinux.get("type") or SELINUX_TYPES[0]) not in SELINUX_TYPES:
        yield "seLinuxOptions.type"
    yield from (f"seLinuxOptions.{name}" for name in ("user", "role") if selinux.get(name))


def _of_hosts(container: Mapping[str, Any]) -> Iterator[str]:
    """Probes and hooks that the kubelet would send elsewhere than to the pod."""
    lifecycle = _object(container.get("lifecycle"))
    actions = {name: container.get(name) for name in _PROBES}
    actions |= {f"lifecycle.{name}": lifecycle.get(name) for name in ("postStart", "preStop")}
    for name, action in actions.items():
        for kind in ("httpGet", "tcpSocket"):
            if _object(_object(action).get(kind)).get("host"):
                yield f"{name}.{kind}.host"


def _effective(name: str, of_container: Mapping[str, Any], of_pod: Mapping[str, Any]) -> Any:
    own = of_container.get(name)
    return of_pod.get(name) if own is None else own


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

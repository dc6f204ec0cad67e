"""The part of a pod that a branch may set: curated, so that the CRD stays small for `kubectl apply`."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from headgate_operator._api_base import LABEL_PATTERN, Model, ObjectName, OpenModel, Rule

_DECIMAL = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
QUANTITY_PATTERN = rf"^[+-]?{_DECIMAL}([KMGTPE]i|[numkMGTPE]|[eE][+-]?{_DECIMAL})?$"
Quantity = int | Annotated[str, Field(max_length=32, pattern=QUANTITY_PATTERN)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]
VolumeName = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]


RESERVED_VARIABLES = (
    "HEADGATE_CONTRACT",
    "HEADGATE_REDIS_URL",
    "HEADGATE_CONSUMER",
    "HEADGATE_HTTP_PORT",
)
"""What every worker's container gets from the operator."""


class PullPolicy(enum.StrEnum):
    """When the image is pulled."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class TolerationOperator(enum.StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(enum.StrEnum):
    """What an untolerated taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class ResourcesSpec(Model):
    """What the node reserves for a worker and the most it may take, by resource."""

    requests: Quantities | None = Field(
        default=None,
        description="Reserved for each worker, by resource name, as Kubernetes quantities.",
        examples=[{"cpu": "500m", "memory": "256Mi"}],
    )
    limits: Quantities | None = Field(
        default=None,
        description="Most that each worker may use, by resource name, as Kubernetes quantities.",
        examples=[{"memory": "1Gi"}],
    )


class EnvVar(Model):
    """An environment variable: a value, or where to take it from."""

    merge_key: ClassVar[str] = "name"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "must not have both value and valueFrom",
            "remove one of value and valueFrom",
        ),
        Rule(
            f"!(self.name in {list(RESERVED_VARIABLES)})",
            f"must not be one of {', '.join(RESERVED_VARIABLES)}: the operator sets them",
            "remove the variable",
            "name",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the variable.", examples=["LOG_LEVEL"]
    )
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None,
        description="The value as it is; empty when neither value nor valueFrom is given.",
        examples=["debug"],
    )
    value_from: dict[str, Any] | None = Field(
        default=None,
        description="Where the value comes from: one of configMapKeyRef, secretKeyRef, fieldRef,"
        " resourceFieldRef, as in a pod.",
        examples=[{"secretKeyRef": {"name": "storage", "key": "token"}}],
    )


class EnvFromRef(Model):
    """A ConfigMap or Secret in the pipeline's namespace."""

    name: ObjectName = Field(description="Name of the object.", examples=["storage"])
    optional: bool = Field(
        default=False, description="Whether a worker starts although the object is missing.", examples=[True]
    )


class EnvFromSource(Model):
    """Environment variables from every key of a ConfigMap or Secret."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMapRef) != has(self.secretRef)",
            "must have exactly one of configMapRef and secretRef",
            "name one ConfigMap or one Secret in each item",
        ),
    )

    prefix: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Put before each key to make the variable's name.", examples=["STORAGE_"]
    )
    config_map_ref: EnvFromRef | None = Field(default=None, description="The ConfigMap to take every key of.")
    secret_ref: EnvFromRef | None = Field(default=None, description="The Secret to take every key of.")


class Toleration(Model):
    """A taint that workers may run in spite of."""

    key: Annotated[str, Field(max_length=316)] | None = Field(
        default=None,
        description="Key of the taint; without one (and operator Exists) every taint.",
        examples=["dedicated"],
    )
    operator: TolerationOperator = Field(
        default=TolerationOperator.EQUAL,
        description="How the taint's value is compared: Exists takes any.",
        examples=["Exists"],
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Value of the taint, for operator Equal.", examples=["video"]
    )
    effect: TaintEffect | None = Field(
        default=None, description="Effect of the taint; without one, all effects.", examples=["NoSchedule"]
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = Field(
        default=None,
        description="Seconds a worker stays on a node that got a NoExecute taint; without it, for ever.",
        examples=[60],
    )


class Volume(OpenModel):
    """A volume of the pod."""

    merge_key: ClassVar[str] = "name"

    name: VolumeName = Field(
        description="Name that volumeMounts refer to. Beside it stands one source of the pod API, such as"
        " emptyDir,"
        " persistentVolumeClaim, configMap or secret.",
        examples=["media"],
    )


class VolumeMount(Model):
    """Where a volume appears in a worker's file system."""

    merge_key: ClassVar[str] = "mountPath"

    name: VolumeName = Field(description="Name of one of pod.volumes.", examples=["media"])
    mount_path: Annotated[str, Field(min_length=1, max_length=512, pattern="^[^:]*$")] = Field(
        description="Path in the container; no colon.", examples=["/media"]
    )
    sub_path: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Folder of the volume to mount instead of its root.", examples=["uploads"]
    )
    read_only: bool = Field(default=False, description="Whether workers may only read it.", examples=[True])


class PullSecret(Model):
    """A Secret with credentials for the image's registry."""

    merge_key: ClassVar[str] = "name"

    name: ObjectName = Field(
        description="Name of the Secret, in the pipeline's namespace.", examples=["registry"]
    )


class PodSpec(Model):
    """What a branch sets in its workers' pods. A local run has no pods and uses none of it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m,"
            " has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "must name volumes of this pod",
            "add the volume to pod.volumes, or correct the mount's name",
            "volumeMounts",
        ),
    )

    resources: ResourcesSpec | None = Field(
        default=None, description="Processor, memory and other resources of each worker."
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=100,
        description="Environment variables of the workers, by name.",
        examples=[[{"name": "LOG_LEVEL", "value": "debug"}]],
    )
    env_from: tuple[EnvFromSource, ...] = Field(
        default=(),
        max_length=32,
        description="ConfigMaps and Secrets whose every key becomes an environment variable.",
        examples=[[{"secretRef": {"name": "storage"}}]],
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None,
        max_length=32,
        description="Labels that a worker's node must have.",
        examples=[{"kubernetes.io/arch": "amd64"}],
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(),
        max_length=32,
        description="Taints that workers may run in spite of.",
        examples=[[{"key": "dedicated", "operator": "Exists"}]],
    )
    volumes: tuple[Volume, ...] = Field(
        default=(),
        max_length=16,
        description="Volumes of each worker's pod, by name.",
        examples=[[{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}]],
    )
    volume_mounts: tuple[VolumeMount, ...] = Field(
        default=(),
        max_length=16,
        description="Where the volumes appear in the container, by mountPath.",
        examples=[[{"name": "media", "mountPath": "/media"}]],
    )
    image_pull_policy: PullPolicy | None = Field(
        default=None,
        description="When the image is pulled; without it Kubernetes decides by the image's tag.",
        examples=["IfNotPresent"],
    )
    image_pull_secrets: tuple[PullSecret, ...] = Field(
        default=(),
        max_length=8,
        description="Secrets with credentials for the image's registry, by name.",
        examples=[[{"name": "registry"}]],
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="ServiceAccount of the workers, in the pipeline's namespace; without it one of the pipeline's own,"
        " with no rights.",
        examples=["media-reader"],
    )
    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] | None = Field(
        default=None,
        description="More labels of the workers' pods; those of headgate.dev and app.kubernetes.io are the operator's.",
        examples=[{"team": "video"}],
    )
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = (
        Field(
            default=None, description="More annotations of the workers' pods.", examples=[{"team": "video"}]
        )
    )
    overlay: dict[str, Any] | None = Field(
        default=None,
        description="Members of the Kubernetes pod spec that have no field here, merged into the workers' pods;"
        " those that give a pod rights on its node are refused.",
        examples=[{"priorityClassName": "batch"}],
    )

"""All objects of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_operator.manifests.deployment import deployment
from headgate_operator.manifests.names import metadata, service_account_name
from headgate_operator.manifests.network_policy import network_policy
from headgate_operator.manifests.redis import secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.pod_guard import PodRules
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline


@dataclass(frozen=True)
class Children:
    """A pipeline's objects: what the Deployments need before they start, and the Deployments by branch."""

    shared: Sequence[Manifest]
    deployments: Mapping[str, Manifest]


def children(
    pipeline: Pipeline,
    redis: RedisSource,
    pushing_image: str | None = None,
    rules: PodRules | None = None,
) -> Children:
    """What has to exist for the pipeline, given where its server's URL stands.

    `pushing_image` is the image of workers that push events; raises Problem when a branch needs it and it is None,
    and when one makes of its pod what the rules do not allow.
    """
    shared = [service_account(pipeline)]
    if redis.owned:
        shared.append(secret(pipeline, redis))
    if pipeline.spec.network_policy is not None:
        shared.append(network_policy(pipeline, pipeline.spec.network_policy, redis))
    return Children(
        shared=shared,
        deployments={
            branch.name: deployment(pipeline, branch, redis, pushing_image, rules)
            for branch in pipeline.spec.branches
        },
    )


def service_account(pipeline: Pipeline) -> Manifest:
    """The workers' ServiceAccount; they never talk to the API server, so it mounts no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(pipeline, service_account_name(pipeline.name)),
        "automountServiceAccountToken": False,
    }

"""Pure functions from a pipeline to the Kubernetes objects its workers need.

`children` is the way in. An object is a plain dictionary as the API server takes it; what is not in it is left to
Kubernetes or to somebody else, above all the number of replicas, which belongs to the pilot.
"""

from __future__ import annotations

from headgate_operator.manifests.children import Children, children
from headgate_operator.manifests.names import (
    BRANCH_LABEL,
    PIPELINE_LABEL,
    Manifest,
    deployment_name,
    selector,
)
from headgate_operator.manifests.redis import RedisSource

__all__ = [
    "BRANCH_LABEL",
    "PIPELINE_LABEL",
    "Children",
    "Manifest",
    "RedisSource",
    "children",
    "deployment_name",
    "selector",
]

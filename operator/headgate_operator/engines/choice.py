"""The engine of a branch as it stands: pure questions to a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_operator.api import ScaleEngine

if TYPE_CHECKING:
    from headgate_operator.pipeline import Pipeline


def in_force(pipeline: Pipeline, branch: str) -> ScaleEngine:
    """Who scales the branch now. While it is paused the pilot does, as neither KEDA nor an autoscaler has a pause.

    Nobody's workers (engine None) stay nobody's. Raises KeyError when there is no such branch.
    """
    spec = pipeline.branch(branch)
    paused = pipeline.spec.paused or spec.paused
    if paused and spec.scale.engine is not ScaleEngine.NONE:
        return ScaleEngine.PILOT
    return spec.scale.engine


def foreign(pipeline: Pipeline) -> tuple[str, ...]:
    """The branches that somebody else than the pilot scales."""
    return tuple(name for name in pipeline.branch_names if in_force(pipeline, name) is not ScaleEngine.PILOT)


def fewest(pipeline: Pipeline, branch: str) -> int:
    """Fewest workers under the engine in force: a HorizontalPodAutoscaler knows no zero."""
    least = 1 if in_force(pipeline, branch) is ScaleEngine.HPA else 0
    return max(least, pipeline.branch(branch).scale.min)

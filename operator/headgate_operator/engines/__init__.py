"""Who decides how many workers a branch has when the pilot does not: KEDA, a HorizontalPodAutoscaler, or nobody here.

The engines follow the pilot's decision: what they are given is the number of workers it wants, with a target of one a
worker, and what they add is how they get there. So a branch has the same law under every engine.
"""

from __future__ import annotations

from headgate_operator.engines.choice import fewest, foreign, in_force
from headgate_operator.engines.manifests import manifests

__all__ = ["fewest", "foreign", "in_force", "manifests"]

"""How many workers a branch should have: pure decisions (`decision`), from what counters say (`rates`, `starts`)."""

from headgate_operator.autoscale.decision import Decision, ScalerState, counted, decide
from headgate_operator.autoscale.inputs import ScaleLimits, ScalerInputs
from headgate_operator.autoscale.rates import WorkerRate

__all__ = ["Decision", "ScaleLimits", "ScalerInputs", "ScalerState", "WorkerRate", "counted", "decide"]

"""The only code that talks to Redis: keys, scripts, and what each does."""

from headgate.streams.deadletters import DeadLetter, read_dead_letters
from headgate.streams.doorbell import Doorbell
from headgate.streams.errors import LeaseLostError, NotProvisionedError, ServerUnavailableError, StreamsError
from headgate.streams.gate import Gate, set_gate
from headgate.streams.groups import Ensured, ensure_groups, remove_pipeline, retire
from headgate.streams.keys import PartitionKeys, PipelineKeys
from headgate.streams.measure import BranchMeasurement, LaneMeasurement, PipelineMeasurement, measure
from headgate.streams.publisher import Publisher, Receipt, find_pipeline
from headgate.streams.server import Server
from headgate.streams.settings import BranchStart, SourceSettings
from headgate.streams.sweep import sweep

__all__ = [
    "BranchMeasurement",
    "BranchStart",
    "DeadLetter",
    "Doorbell",
    "Ensured",
    "Gate",
    "LaneMeasurement",
    "LeaseLostError",
    "NotProvisionedError",
    "PartitionKeys",
    "PipelineKeys",
    "PipelineMeasurement",
    "Publisher",
    "Receipt",
    "Server",
    "ServerUnavailableError",
    "SourceSettings",
    "StreamsError",
    "ensure_groups",
    "find_pipeline",
    "measure",
    "read_dead_letters",
    "remove_pipeline",
    "retire",
    "set_gate",
    "sweep",
]

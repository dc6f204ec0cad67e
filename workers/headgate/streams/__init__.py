"""The only code that talks to Redis: keys, scripts, and what each does."""

from headgate.streams.backpressure import BackpressureError, OnBackpressure
from headgate.streams.closing import Closed, close_branch, open_branch, read_closed, reopen_if_moved
from headgate.streams.deadletters import DeadLetter, LetterFilter, read_dead_letters
from headgate.streams.doorbell import Doorbell
from headgate.streams.durability import Replicated
from headgate.streams.errors import (
    DeniedError,
    FewerPartitionsError,
    LeaseLostError,
    NotOwnerError,
    NotProvisionedError,
    ServerRefusedError,
    ServerUnavailableError,
    StreamsError,
)
from headgate.streams.finding import find_pipeline
from headgate.streams.gate import Gate, Rejection, set_gate, set_rejection
from headgate.streams.groups import Ensured, ensure_groups, remove_pipeline, retire
from headgate.streams.growing import release_grown
from headgate.streams.keys import PartitionKeys, PipelineKeys
from headgate.streams.measure import BranchMeasurement, LaneMeasurement, PipelineMeasurement, measure
from headgate.streams.provisioned import Provisioned, read_provisioned
from headgate.streams.publisher import Publisher
from headgate.streams.receipts import NotReplicatedError, Receipt, RefusedEventError
from headgate.streams.redrive import purge, redrive
from headgate.streams.replay import ReplayPlan, plan_replay, replay
from headgate.streams.server import Server
from headgate.streams.settings import BranchStart, Removal, SourceSettings
from headgate.streams.state import read_counts, read_value, read_values, remove_counts
from headgate.streams.sweep import Swept, sweep

__all__ = [
    "BackpressureError",
    "BranchMeasurement",
    "BranchStart",
    "Closed",
    "DeadLetter",
    "DeniedError",
    "Doorbell",
    "Ensured",
    "FewerPartitionsError",
    "Gate",
    "LaneMeasurement",
    "LeaseLostError",
    "LetterFilter",
    "NotOwnerError",
    "NotProvisionedError",
    "NotReplicatedError",
    "OnBackpressure",
    "PartitionKeys",
    "PipelineKeys",
    "PipelineMeasurement",
    "Provisioned",
    "Publisher",
    "Receipt",
    "RefusedEventError",
    "Rejection",
    "Removal",
    "ReplayPlan",
    "Replicated",
    "Server",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SourceSettings",
    "StreamsError",
    "Swept",
    "close_branch",
    "ensure_groups",
    "find_pipeline",
    "measure",
    "open_branch",
    "plan_replay",
    "purge",
    "read_closed",
    "read_counts",
    "read_dead_letters",
    "read_provisioned",
    "read_value",
    "read_values",
    "redrive",
    "release_grown",
    "remove_counts",
    "remove_pipeline",
    "reopen_if_moved",
    "replay",
    "retire",
    "set_gate",
    "set_rejection",
    "sweep",
]

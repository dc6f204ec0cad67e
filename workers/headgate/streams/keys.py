"""The names of every key of a pipeline, and nothing else.

Everything one script touches carries the same hash tag, so it lives on one slot of a Redis Cluster. The partition's
number is the tag's last character: CRC16 then moves by multiples of 4129 slots between neighbours, which spreads even
four partitions over three masters.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.event import Lane


def jump(key: int, buckets: int) -> int:
    """The bucket of a 64-bit key: jump consistent hash (Lamping and Veach, 2014, arXiv:1406.2294)."""
    found, following = 0, 0
    while following < buckets:
        found = following
        key = (key * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        following = int((found + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return found


def jumps(key: int, buckets: int) -> list[int]:
    """Every bucket that `jump` gave or gives a key while there were ever more, up to this number.

    They ascend; the bucket `b` was the key's from when there were `b + 1` of them until it went to the next.
    """
    found, following = [], 0
    while following < buckets:
        found.append(following)
        key = (key * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        following = int((found[-1] + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return found


@dataclass(frozen=True)
class PartitionKeys:
    """The keys of one partition; `tag` is the prefix they share."""

    tag: str
    number: int

    @cached_property
    def lanes(self) -> tuple[str, str, str]:
        """The three source streams, in the order they are read."""
        return (f"{self.tag}:high", f"{self.tag}:normal", f"{self.tag}:low")

    def lane(self, lane: Lane) -> str:
        """One lane's stream."""
        return f"{self.tag}:{lane.value}"

    def retry(self, branch: str) -> str:
        """Stream of a branch's due retries."""
        return f"{self.tag}:retry:{branch}"

    def delayed(self, branch: str) -> str:
        """Sorted set of a branch's retries that are not due yet, by due time in ms."""
        return f"{self.tag}:delayed:{branch}"

    def dead(self, branch: str) -> str:
        """Stream of a branch's dead letters."""
        return f"{self.tag}:dead:{branch}"

    def gate(self, branch: str) -> str:
        """String that says which lanes wait; expires by itself."""
        return f"{self.tag}:gate:{branch}"

    @property
    def rejection(self) -> str:
        """String that says which lanes publishers are refused, and why; expires by itself."""
        return f"{self.tag}:rejection"

    def closed(self, branch: str) -> str:
        """String that says why a branch takes nothing until it is opened again."""
        return f"{self.tag}:closed:{branch}"

    def held(self, branch: str) -> str:
        """Hash of why a branch takes nothing for now (paused, growing), and of how far it has drained."""
        return f"{self.tag}:held:{branch}"

    def owner(self, branch: str) -> str:
        """Hash of which consumer of an ordered branch has the partition, and its fencing token."""
        return f"{self.tag}:owner:{branch}"

    def blocked(self, branch: str) -> str:
        """Hash of an ordered branch's keys whose oldest event waits for its next attempt."""
        return f"{self.tag}:blocked:{branch}"

    def parked(self, branch: str, key: str = "") -> str:
        """List of the events behind a blocked key, in order; without a key the prefix of all."""
        return f"{self.tag}:parked:{branch}:{key}"

    def again(self, branch: str) -> str:
        """Hash of what a replay gives a branch again: by lane the last entry, and those not settled when it began."""
        return f"{self.tag}:again:{branch}"

    def rate(self, branch: str) -> str:
        """String of a branch's rate limit: when it is full again; on partition 0 only."""
        return f"{self.tag}:rate:{branch}"

    def beats(self, branch: str) -> str:
        """Sorted set of a branch's workers by the time in ms of their last heartbeat."""
        return f"{self.tag}:beats:{branch}"

    def dedupe(self, event_id: str) -> str:
        """Mark of an id that was published; expires with the dedupe window."""
        return f"{self.tag}:dedupe:{event_id}"

    @property
    def settings(self) -> str:
        """Hash of what publishers and sweeps must know.

        Numbers of partitions and branches, what the manifest says of the source; up to where each branch has settled
        everything, and before which id all that was trimmed lay.
        """
        return f"{self.tag}:settings"

    @property
    def stats(self) -> str:
        """Hash of cumulative counters."""
        return f"{self.tag}:stats"

    @property
    def joins(self) -> str:
        """Sorted set of open joins by deadline in ms."""
        return f"{self.tag}:joins"

    def join(self, event_id: str) -> str:
        """Hash of one join: each branch's outcome."""
        return f"{self.tag}:join:{event_id}"

    @property
    def joined(self) -> str:
        """Stream of final records."""
        return f"{self.tag}:joined"

    @property
    def timed_out(self) -> str:
        """Stream of joins whose time was up, where the manifest wants them as dead letters; no branch has the name."""
        return f"{self.tag}:dead:@join"

    @property
    def counts(self) -> str:
        """Hash of counters that handlers count up."""
        return f"{self.tag}:counts"

    @property
    def values(self) -> str:
        """Hash of values that handlers put."""
        return f"{self.tag}:values"

    @property
    def outbox(self) -> str:
        """Stream of effects that belong to other slots, until they are relayed."""
        return f"{self.tag}:outbox"

    @property
    def relaying(self) -> str:
        """String that is there while a relay is at the outbox; expires by itself."""
        return f"{self.tag}:relaying"

    @property
    def relayed(self) -> str:
        """Hash of the last entry taken from each outbox."""
        return f"{self.tag}:relayed"


@dataclass(frozen=True)
class PipelineKeys:
    """A pipeline's partitions; events go to one by their key, or their id when they have none."""

    namespace: str
    pipeline: str
    partitions: int = 1

    @cached_property
    def all(self) -> Sequence[PartitionKeys]:
        """Every partition's keys, by number."""
        return tuple(self.partition(number) for number in range(self.partitions))

    def partition(self, number: int) -> PartitionKeys:
        """One partition's keys."""
        return PartitionKeys(f"hg:{{{self.namespace}/{self.pipeline}:{number}}}", number)

    def partition_of(self, key: str) -> int:
        """The partition an ordering key (or id) belongs to: jump hash over CRC-32, stable over versions and languages.

        When partitions are added, a key stays where it is or goes to one of the new.
        """
        return jump(zlib.crc32(key.encode()), self.partitions)

    def homes_of(self, key: str) -> list[int]:
        """The partitions a key ever belonged to while there were fewer, and where it belongs now: the last."""
        return jumps(zlib.crc32(key.encode()), self.partitions)

    def with_partitions(self, partitions: int) -> PipelineKeys:
        """The same pipeline with another number of partitions."""
        return PipelineKeys(self.namespace, self.pipeline, partitions)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pipeline}"

"""Events as CloudEvents 1.0 over HTTP: binary mode for one, the JSON batch format for many.

Sources: the CloudEvents specification 1.0.2, its HTTP protocol binding (3.1 binary mode, 3.3 batches) and the
extensions for partitioning (`partitionkey`) and distributed tracing (`traceparent`).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from headgate.tracing import handled_under, valid_traceparent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.contract import BranchContract
    from headgate.event import Event

JSON = "application/json"
BATCH = "application/cloudevents-batch+json"
# The binding, 3.1.3.2: what is printable ASCII stays, but for space, double quote and percent.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_LONGEST_KEY = 512
_YEAR_10000_MS = 253_402_300_800_000


class Binding:
    """How one branch's events are written; `source` stands in for events without one."""

    def __init__(self, contract: BranchContract) -> None:
        self._branch = f"{contract.namespace}/{contract.pipeline}/{contract.branch}"
        self._source = f"/{contract.namespace}/{contract.pipeline}"

    def idempotency_key(self, event: Event) -> str:
        """Stable over attempts and workers, printable ASCII without a full stop.

        `<namespace>/<pipeline>/<branch>/<partition>/<id>`; the partition is in it because ids that were made for events
        without one repeat between partitions.
        """
        return self._key(event.idempotency_key)

    def batch_key(self, events: Sequence[Event]) -> str:
        """The same for a batch: stable as long as the same events are in it, in the same order."""
        ids = "\n".join(event.idempotency_key for event in events)
        return self._key(f"batch-{hashlib.sha256(ids.encode()).hexdigest()}")

    def binary(self, event: Event) -> dict[str, str]:
        """The headers of an event whose data is the body."""
        headers = {
            "content-type": JSON,
            "headgate-attempt": str(event.attempt),
            **{f"ce-{name}": encode_value(value) for name, value in self._attributes(event).items()},
        }
        if event.fencing_token:
            headers["headgate-fencing-token"] = str(event.fencing_token)
        # The extension's attribute says where the event came from, the header which span this request belongs to.
        traceparent = handled_under.get() or headers.get("ce-traceparent")
        if traceparent is not None:
            headers["traceparent"] = traceparent
        return headers

    def batch(self, events: Sequence[Event]) -> bytes:
        """The body of a batch. Each event's attempt and idempotency key are attributes of it."""
        return msgspec.json.encode([self._structured(event) for event in events])

    def _structured(self, event: Event) -> dict[str, Any]:
        written: dict[str, Any] = {
            **self._attributes(event),
            "datacontenttype": JSON,
            "idempotencykey": self.idempotency_key(event),
            "attempt": event.attempt,
            "data": msgspec.Raw(event.body),
        }
        if event.fencing_token:
            written["fencingtoken"] = str(event.fencing_token)
        return written

    def _attributes(self, event: Event) -> dict[str, str]:
        found = {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source or self._source,
            "type": event.type or "event",
        }
        if 0 <= event.published_ms < _YEAR_10000_MS:
            at = datetime.fromtimestamp(event.published_ms / 1000, UTC)
            found["time"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if event.key:
            found["partitionkey"] = event.key
        traceparent = valid_traceparent(event.traceparent)
        if traceparent is not None:
            found["traceparent"] = traceparent
        return found

    def _key(self, text: str) -> str:
        whole = f"{self._branch}/{text}"
        # Without a full stop: Standard Webhooks signs "<id>.<timestamp>.<body>", where it must end the id.
        key = encode_value(whole).replace(".", "%2E")
        return key if len(key) <= _LONGEST_KEY else f"sha256-{hashlib.sha256(whole.encode()).hexdigest()}"


def encode_value(value: str) -> str:
    """An attribute's value as a header's."""
    return quote(value, safe=_PLAIN)

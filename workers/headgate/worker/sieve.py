"""The sieve between reading and handling: what does not conform to the schema, and what the branch does not want.

An event that does not conform, or that the filter cannot be evaluated over, becomes a dead letter with the reason:
nothing is dropped silently (docs/decisions/2026-11-21-filter-errors-are-dead-letters.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.event import InvalidEventError

if TYPE_CHECKING:
    from headgate.contract import BranchContract
    from headgate.filter import Filter
    from headgate.schema import Schema
    from headgate.streams.outcome import Delivery


class Sieve:
    """Sifts deliveries by the schema, if there is one, then by the filter, if there is one."""

    def __init__(self, schema: Schema | None, wanted: Filter | None) -> None:
        self._schema = schema
        self._filter = wanted

    def sift(self, deliveries: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Those to go on with, marked `invalid` where they must not be handled, and those filtered out.

        The schema comes first, so that a filter may count on it.
        """
        schema, wanted = self._schema, self._filter
        keep: list[Delivery] = []
        filtered: list[Delivery] = []
        for delivery in deliveries:
            if delivery.invalid is None:
                try:
                    if schema is not None:
                        schema.check(delivery.event.data)
                    if wanted is not None and not wanted.matches(delivery.event):
                        filtered.append(delivery)
                        continue
                except InvalidEventError as error:
                    delivery.invalid = str(error)
                except ValueError as error:
                    delivery.invalid = f"filter: {error}"
            keep.append(delivery)
        return keep, filtered


def make_sieve(contract: BranchContract) -> Sieve | None:
    """The sieve of a branch, or None when it takes everything as it is; raises FilterError, SchemaError."""
    # Both libraries cost memory and time to start; a branch that needs neither does not pay.
    schema = wanted = None
    if contract.schema is not None and contract.schema is not True:
        from headgate.schema import compile_schema  # noqa: PLC0415

        schema = compile_schema(contract.schema)
    if contract.filter is not None:
        from headgate.filter import compile_filter  # noqa: PLC0415

        wanted = compile_filter(contract.filter)
    return None if schema is None and wanted is None else Sieve(schema, wanted)

"""Fan-in: the final records of a pipeline. The gathering itself is scripts/join.lua, inside the settle."""

from headgate.join.record import Record, read_records

__all__ = ["Record", "read_records"]

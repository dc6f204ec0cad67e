"""A pipeline by its name: what publishers and relays have to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.streams.errors import NotProvisionedError
from headgate.streams.keys import PipelineKeys
from headgate.streams.settings import FIELDS, SourceSettings

if TYPE_CHECKING:
    from headgate.streams.server import Server


class Found(NamedTuple):
    """A pipeline's keys, its source, and what its partitions were (see `Homes`)."""

    keys: PipelineKeys
    settings: SourceSettings
    grown: str


async def find_pipeline(server: Server, namespace: str, pipeline: str) -> tuple[PipelineKeys, SourceSettings]:
    """The keys of a pipeline on this server, and what its manifest says of its source.

    Raises NotProvisionedError when there is none of that name, ServerUnavailableError.
    """
    found = await find(server, namespace, pipeline)
    return found.keys, found.settings


async def find(server: Server, namespace: str, pipeline: str) -> Found:
    """A pipeline by its name; raises as `find_pipeline` does."""
    name = PipelineKeys(namespace, pipeline).partition(0).settings
    partitions, grown, *fields = await server.execute(name, "HMGET", name, "partitions", "grown", *FIELDS)
    if partitions is None:
        raise NotProvisionedError(
            f"no pipeline {namespace}/{pipeline} on this server: apply or run its manifest first"
        )
    keys = PipelineKeys(namespace, pipeline, int(partitions))
    return Found(keys, SourceSettings.from_fields(fields), (grown or b"").decode())

"""A pipeline by its name: what publishers and relays have to know of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from headgate.streams.errors import NotProvisionedError
from headgate.streams.keys import PipelineKeys
from headgate.streams.settings import FIELDS, SourceSettings

if TYPE_CHECKING:
    from headgate.streams.server import Server


class Found(NamedTuple):
    """A pipeline's keys, its source, what its partitions were, and how many each of them knows of (see `Homes`)."""

    keys: PipelineKeys
    settings: SourceSettings
    grown: str
    numbers: tuple[int, ...]


async def find_pipeline(server: Server, namespace: str, pipeline: str) -> tuple[PipelineKeys, SourceSettings]:
    """The keys of a pipeline on this server, and what its manifest says of its source.

    Raises NotProvisionedError when there is none of that name, ServerUnavailableError.
    """
    keys, settings, _ = await _first(server, namespace, pipeline)
    return keys, settings


async def find(server: Server, namespace: str, pipeline: str) -> Found:
    """A pipeline by its name, as every partition has it; raises as `find_pipeline` does."""
    keys, settings, grown = await _first(server, namespace, pipeline)
    names = [partition.settings for partition in keys.all[1:]]
    others = await asyncio.gather(
        *(server.execute(name, "HMGET", name, "partitions", "grown") for name in names)
    )
    # One that knows of more by now refuses, and all are asked again.
    numbers = (keys.partitions, *(min(int(count or keys.partitions), keys.partitions) for count, _ in others))
    told = [grown, *((text or b"").decode() for _, text in others)]
    return Found(keys, settings, ",".join(text for text in told if text), numbers)


async def _first(server: Server, namespace: str, pipeline: str) -> tuple[PipelineKeys, SourceSettings, str]:
    """What the first partition says."""
    name = PipelineKeys(namespace, pipeline).partition(0).settings
    partitions, grown, *fields = await server.execute(name, "HMGET", name, "partitions", "grown", *FIELDS)
    if partitions is None:
        raise NotProvisionedError(
            f"no pipeline {namespace}/{pipeline} on this server: apply or run its manifest first"
        )
    keys = PipelineKeys(namespace, pipeline, int(partitions))
    return keys, SourceSettings.from_fields(fields), (grown or b"").decode()

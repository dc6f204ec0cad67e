"""Which pipeline on which server a verb is about: the options they share, and finding its partitions."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate_cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from headgate.streams import PipelineKeys, Server

RedisUrl = Annotated[
    str,
    typer.Option(envvar="HEADGATE_REDIS_URL", help="The pipeline's server, such as redis://localhost:6379."),
]
PipelineName = Annotated[
    str, typer.Option("--pipeline", "-p", help="The pipeline as [namespace/]name; namespace `default`.")
]

BranchOption = Annotated[str, typer.Option("--branch", "-b", help="The branch.")]


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Runs a verb's coroutine; raises CommandError when the server cannot be reached."""
    from headgate.streams import StreamsError  # noqa: PLC0415

    try:
        asyncio.run(work)
    except StreamsError as error:
        raise CommandError(str(error)) from error


@asynccontextmanager
async def connect(redis_url: str) -> AsyncIterator[Server]:
    """A server by URL; raises CommandError when it is no URL of one."""
    from headgate.streams import Server  # noqa: PLC0415

    if not redis_url:
        raise CommandError("no server: give --redis-url or set HEADGATE_REDIS_URL", Exit.INVALID)
    try:
        server = Server.connect(redis_url)
    except ValueError as error:
        raise CommandError(str(error), Exit.INVALID) from error
    try:
        yield server
    finally:
        await server.aclose()


async def find(server: Server, pipeline: str) -> PipelineKeys:
    """The keys of a pipeline by [namespace/]name; raises NotProvisionedError when the server has none such."""
    from headgate.streams import find_pipeline  # noqa: PLC0415

    namespace, _, name = pipeline.rpartition("/")
    keys, _ = await find_pipeline(server, namespace or "default", name)
    return keys


async def check_branch(server: Server, keys: PipelineKeys, branch: str) -> None:
    """Raises CommandError when the pipeline has no such branch, saying which it has."""
    lane = keys.partition(0).lanes[0]
    groups = await server.execute(lane, "XINFO", "GROUPS", lane)
    names = sorted(group[group.index(b"name") + 1].decode() for group in groups)
    if branch not in names:
        raise CommandError(f"--branch: pipeline {keys} has no branch {branch!r}; it has {', '.join(names)}")

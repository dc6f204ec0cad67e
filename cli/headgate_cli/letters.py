"""Which dead letters a verb is about: the options that list, redrive and purge share, and progress shown."""

from __future__ import annotations

import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.exits import CommandError, Exit
from headgate_cli.target import check_branch, connect, find
from headgate_cli.times import moment_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate.streams import LetterFilter, PipelineKeys, Server

BranchOrJoinOption = Annotated[
    str, typer.Option("--branch", "-b", help="The branch; give this or --join.", show_default=False)
]
ErrorOption = Annotated[str, typer.Option("--error", help="Only those whose error contains this text.")]
TypeOption = Annotated[str, typer.Option("--type", help="Only events of this type.")]
IdOption = Annotated[str, typer.Option("--id", help="Only the event of this id.")]
OlderOption = Annotated[
    str, typer.Option("--older", help="Only dead letters since before this: 90s, 15m, 2h, 1d ago, or a time.")
]
NewerOption = Annotated[str, typer.Option("--newer", help="Only dead letters since after this.")]
JoinOption = Annotated[
    bool, typer.Option("--join", help="Those of the pipeline's join instead of a branch's.")
]

_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Choice:
    """The options that say which dead letters, as they were given; empty ones choose all."""

    error: str
    event_type: str
    event_id: str
    older: str
    newer: str

    async def as_filter(self, server: Server, keys: PipelineKeys) -> LetterFilter:
        """The filter that they make, by the server's clock; raises CommandError for a time that is none."""
        from headgate.streams import LetterFilter  # noqa: PLC0415
        from headgate.streams.replay import server_ms  # noqa: PLC0415

        now_ms = await server_ms(server, keys) if self.older or self.newer else 0
        return LetterFilter(
            error=self.error,
            type=self.event_type,
            id=self.event_id,
            from_ms=moment_ms("--newer", self.newer, now_ms) if self.newer else None,
            until_ms=moment_ms("--older", self.older, now_ms) if self.older else None,
        )


@asynccontextmanager
async def letters_of(
    redis_url: str, pipeline: str, where: str, choice: Choice
) -> AsyncIterator[tuple[Server, PipelineKeys, LetterFilter]]:
    """What listing, giving again and removing begin with: the server, the pipeline's keys, and which letters.

    Raises CommandError when there is no such branch, NotProvisionedError when there is no such pipeline.
    """
    async with connect(redis_url) as server:
        keys = await find(server, pipeline)
        await _check(server, keys, where)
        yield server, keys, await choice.as_filter(server, keys)


def branch_or_join(branch: str, *, join: bool) -> str:
    """The branch, or what stands for the join; raises CommandError unless exactly one is given."""
    from headgate.streams.deadletters import JOIN  # noqa: PLC0415

    if bool(branch) == join:
        raise CommandError("give either --branch or --join", Exit.INVALID)
    return JOIN if join else branch


async def _check(server: Server, keys: PipelineKeys, branch: str) -> None:
    """Raises CommandError when the pipeline has no such branch and never left dead letters of one."""
    from headgate.streams.deadletters import JOIN  # noqa: PLC0415

    if branch == JOIN:
        return
    for partition in keys.all:
        dead = partition.dead(branch)
        if await server.execute(dead, "EXISTS", dead):
            return
    await check_branch(server, keys, branch)


async def count(server: Server, keys: PipelineKeys, branch: str, wanted: LetterFilter) -> int:
    """How many dead letters there are now that the filter takes."""
    from headgate.streams.deadletters import find_letters  # noqa: PLC0415

    found = 0
    async for _ in find_letters(server, keys, branch, wanted):
        found += 1
    return found


async def follow(steps: AsyncIterator[int], what: str) -> None:
    """Runs through the steps, shows on standard error how far they are, and says at the end, also when broken off."""
    done, shown = 0, time.monotonic()
    try:
        async for done in steps:
            if sys.stderr.isatty() and time.monotonic() - shown > _EVERY_SECONDS:
                shown = time.monotonic()
                typer.echo(f"\r{done:,} {what}", err=True, nl=False)
    finally:
        if sys.stderr.isatty():
            typer.echo("\r", err=True, nl=False)
        typer.echo(f"{done:,} {what}")

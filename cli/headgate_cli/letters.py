"""Which dead letters a verb is about: the options that list, redrive and purge share, and progress shown."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.exits import CommandError, Exit
from headgate_cli.target import check_branch
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


async def chosen(
    server: Server, keys: PipelineKeys, *, error: str, event_type: str, event_id: str, older: str, newer: str
) -> LetterFilter:
    """The filter that the options make; raises CommandError for a time that is none."""
    from headgate.streams import LetterFilter  # noqa: PLC0415
    from headgate.streams.replay import server_ms  # noqa: PLC0415

    now_ms = await server_ms(server, keys) if older or newer else 0
    return LetterFilter(
        error=error,
        type=event_type,
        id=event_id,
        from_ms=moment_ms("--newer", newer, now_ms) if newer else None,
        until_ms=moment_ms("--older", older, now_ms) if older else None,
    )


def branch_or_join(branch: str, *, join: bool) -> str:
    """The branch, or what stands for the join; raises CommandError unless exactly one is given."""
    from headgate.streams.deadletters import JOIN  # noqa: PLC0415

    if bool(branch) == join:
        raise CommandError("give either --branch or --join", Exit.INVALID)
    return JOIN if join else branch


async def check_letters_of(server: Server, keys: PipelineKeys, branch: str) -> None:
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

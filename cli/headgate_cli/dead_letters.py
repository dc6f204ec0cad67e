"""`headgate dead-letters`: the events a branch gave up on, and joins whose time was up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.letters import (
    BranchOrJoinOption,
    Choice,
    ErrorOption,
    IdOption,
    JoinOption,
    NewerOption,
    OlderOption,
    TypeOption,
    branch_or_join,
    letters_of,
)
from headgate_cli.target import PipelineName, RedisUrl, run_async

if TYPE_CHECKING:
    from headgate.streams import LetterFilter, PipelineKeys, Server


def dead_letters_command(
    *,
    pipeline: PipelineName,
    branch: BranchOrJoinOption = "",
    redis_url: RedisUrl = "",
    limit: Annotated[int, typer.Option(help="Dead letters of each partition at most.", min=1)] = 100,
    error: ErrorOption = "",
    event_type: TypeOption = "",
    event_id: IdOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    join: JoinOption = False,
) -> None:
    """Print the dead letters of a branch.

    Oldest first, a line of JSON each: id, error, attempts, data, and when and where it failed.

    \b
    Examples:
      headgate dead-letters --redis-url redis://localhost -p videos -b transcode
      headgate dead-letters -p shop/orders -b invoice --error TimeoutError --newer 2h | jq .data
      headgate dead-letters -p shop/orders --join
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    where = branch_or_join(branch, join=join)

    choice = Choice(error, event_type, event_id, older, newer)

    async def run() -> None:
        async with letters_of(redis_url, pipeline, where, choice) as (server, keys, wanted):
            print_all = _print_joins if join else _print_letters
            await print_all(server, keys, where, limit, wanted)

    run_async(run())


async def _print_letters(
    server: Server, keys: PipelineKeys, branch: str, limit: int, wanted: LetterFilter
) -> None:
    import msgspec  # noqa: PLC0415

    from headgate.streams import read_dead_letters  # noqa: PLC0415

    for letter in await read_dead_letters(server, keys, branch, limit, wanted):
        typer.echo(msgspec.json.encode(letter).decode())


async def _print_joins(
    server: Server, keys: PipelineKeys, branch: str, limit: int, wanted: LetterFilter
) -> None:
    """What was there of each join, as `headgate records` prints it, and why there is no more."""
    import msgspec  # noqa: PLC0415

    from headgate.join.record import record_of  # noqa: PLC0415
    from headgate.streams.deadletters import find_letters  # noqa: PLC0415

    async for letter in find_letters(server, keys, branch, wanted, limit):
        record = msgspec.structs.asdict(record_of(letter.entry, letter.fields, letter.partition))
        record["publishedMs"], record["joinedMs"] = record.pop("published_ms"), record.pop("joined_ms")
        record["error"] = letter.fields[b"error"].decode(errors="replace")
        typer.echo(msgspec.json.encode(record).decode())

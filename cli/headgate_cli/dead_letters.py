"""`headgate dead-letters`: the events a branch gave up on."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate_cli.target import PipelineName, RedisUrl, connect, find, run_async


def dead_letters_command(
    pipeline: PipelineName,
    branch: Annotated[str, typer.Option("--branch", "-b", help="The branch.")],
    redis_url: RedisUrl = "",
    limit: Annotated[int, typer.Option(help="Dead letters of each partition at most.", min=1)] = 100,
) -> None:
    """Print the dead letters of a branch.

    Oldest first, a line of JSON each: id, error, attempts, data.

    \b
    Examples:
      headgate dead-letters --redis-url redis://localhost -p videos -b transcode
      headgate dead-letters -p shop/orders -b invoice --limit 10 | jq .error
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    run_async(_dead_letters(redis_url, pipeline, branch, limit))


async def _dead_letters(redis_url: str, name: str, branch: str, limit: int) -> None:
    import msgspec  # noqa: PLC0415

    from headgate.streams import read_dead_letters  # noqa: PLC0415

    async with connect(redis_url) as server:
        for letter in await read_dead_letters(server, await find(server, name), branch, limit):
            typer.echo(msgspec.json.encode(letter).decode())

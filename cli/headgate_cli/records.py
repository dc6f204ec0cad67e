"""`headgate records`: the final records of a pipeline's join."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate_cli.target import PipelineName, RedisUrl, connect, find, run_async


def records_command(
    pipeline: PipelineName,
    redis_url: RedisUrl = "",
    limit: Annotated[int, typer.Option(help="Records of each partition at most.", min=1)] = 1000,
) -> None:
    """Print final records of the join.

    Oldest first, a line of JSON each.

    \b
    Examples:
      headgate records --redis-url redis://localhost -p videos
      headgate records -p shop/orders --limit 10 | jq 'select(.complete | not)'
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    run_async(_records(redis_url, pipeline, limit))


async def _records(redis_url: str, name: str, limit: int) -> None:
    import msgspec  # noqa: PLC0415

    from headgate.join import read_records  # noqa: PLC0415

    async with connect(redis_url) as server:
        for record in await read_records(server, await find(server, name), limit=limit):
            fields = msgspec.structs.asdict(record)
            fields["publishedMs"], fields["joinedMs"] = fields.pop("published_ms"), fields.pop("joined_ms")
            typer.echo(msgspec.json.encode(fields).decode())

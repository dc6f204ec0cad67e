"""`headgate counts` and `headgate values`: what handlers counted and put."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate_cli.target import PipelineName, RedisUrl, connect, find, run_async


def counts_command(
    pipeline: PipelineName,
    redis_url: RedisUrl = "",
    prefix: Annotated[str, typer.Option("--prefix", help="Only counters whose name begins with this.")] = "",
) -> None:
    """Print what handlers counted, as one JSON object by name.

    \b
    Examples:
      headgate counts --redis-url redis://localhost -p videos
      headgate counts -p shop/orders | jq .sold
      headgate counts -p shop/orders --prefix sold: | jq add
    """  # noqa: D301 - \b is what keeps the lines of an example apart

    async def run() -> None:
        import msgspec  # noqa: PLC0415

        from headgate.streams import read_counts  # noqa: PLC0415

        async with connect(redis_url) as server:
            found = await read_counts(server, await find(server, pipeline), prefix)
            typer.echo(msgspec.json.encode(found).decode())

    run_async(run())


def values_command(
    pipeline: PipelineName,
    redis_url: RedisUrl = "",
    key: Annotated[str | None, typer.Option("--key", "-k", help="Only the value of this key.")] = None,
) -> None:
    """Print what handlers put, as one JSON object by key.

    With --key that value alone, null when there is none.

    \b
    Examples:
      headgate values --redis-url redis://localhost -p videos
      headgate values -p shop/orders --key stock/1234
    """  # noqa: D301 - \b is what keeps the lines of an example apart

    async def run() -> None:
        import msgspec  # noqa: PLC0415

        from headgate.streams import read_values  # noqa: PLC0415
        from headgate.streams.state import read_value  # noqa: PLC0415

        async with connect(redis_url) as server:
            keys = await find(server, pipeline)
            found = await read_values(server, keys) if key is None else await read_value(server, keys, key)
            typer.echo(msgspec.json.encode(found).decode())

    run_async(run())

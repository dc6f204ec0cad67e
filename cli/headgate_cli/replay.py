"""`headgate replay`: a branch reads again what the source still keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.exits import CommandError, Exit
from headgate_cli.target import BranchOption, PipelineName, RedisUrl, check_branch, connect, find, run_async
from headgate_cli.times import moment_ms, time_text

if TYPE_CHECKING:
    from headgate.streams import ReplayPlan


def replay_command(
    *,
    pipeline: PipelineName,
    branch: BranchOption,
    redis_url: RedisUrl = "",
    since: Annotated[
        str, typer.Option(help="Events published from then on: a time, or 90s, 15m, 2h, 1d ago.")
    ] = "",
    from_oldest: Annotated[
        bool, typer.Option("--from-oldest", help="All that the source still keeps.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")] = False,
) -> None:
    """Let a branch read again what was published from a time on.

    No other branch notices. What the branch is handling right now may be handled once more. The source keeps events
    that every branch has settled for spec.source.retention.keepSeconds.

    \b
    Examples:
      headgate replay --redis-url redis://localhost -p videos -b transcode --since 1h --dry-run
      headgate replay -p shop/orders -b invoice --since 2026-11-21T10:00:00Z
      headgate replay -p shop/orders -b invoice --from-oldest
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    if bool(since) == from_oldest:
        raise CommandError("give either --since or --from-oldest", Exit.INVALID)

    async def run() -> None:
        from headgate.streams import plan_replay, replay  # noqa: PLC0415
        from headgate.streams.replay import server_ms  # noqa: PLC0415

        async with connect(redis_url) as server:
            keys = await find(server, pipeline)
            await check_branch(server, keys, branch)
            now_ms = await server_ms(server, keys)
            since_ms = moment_ms("--since", since, now_ms) if since else 0
            if since_ms > now_ms:
                raise CommandError(
                    f"--since: {time_text(since_ms)} is to come: by the server's clock it is {time_text(now_ms)};"
                    " give a time before that",
                    Exit.INVALID,
                )
            plan = await plan_replay(server, keys, branch, since_ms)
            if since and since_ms < plan.reaches_ms:
                raise CommandError(
                    f"--since: {time_text(since_ms)} is further back than the history, which is whole only from"
                    f" {time_text(plan.reaches_ms)} on; --from-oldest replays what is left of it"
                    " (spec.source.retention.keepSeconds keeps more)"
                )
            if not dry_run:
                await replay(server, keys, plan)
            _tell(plan, dry_run=dry_run)

    run_async(run())


def _tell(plan: ReplayPlan, *, dry_run: bool) -> None:
    for partition, entries in enumerate(plan.entries):
        typer.echo(f"partition {partition}: {entries:,} events")
    history = f"is whole from {time_text(plan.reaches_ms)} on" if plan.reaches_ms else "is whole"
    typer.echo(f"the history {history}")
    reads = "would read" if dry_run else "reads"
    typer.echo(f"{plan.branch} {reads} {sum(plan.entries):,} events again")

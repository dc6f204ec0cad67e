"""`headgate publish`: events into a pipeline, from the command line or a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.event import Lane
from headgate_cli.exits import CommandError, Exit
from headgate_cli.target import PipelineName, RedisUrl, connect, run_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.event import NewEvent
    from headgate.streams import BackpressureError, Receipt

    _Placed = tuple[str, NewEvent]

BATCH = 500


def publish_command(
    *,
    pipeline: PipelineName,
    redis_url: RedisUrl = "",
    data: Annotated[str | None, typer.Option(help="One event's data, as JSON.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="One event a line, each an object with `data` and, if wanted, `id`, `type`, `source`, `key`, `lane`,"
            " `traceparent`; `-` reads standard input.",
            allow_dash=True,
        ),
    ] = None,
    lane: Annotated[Lane, typer.Option(help="Priority, where the line of a file names none.")] = Lane.NORMAL,
    event_id: Annotated[str | None, typer.Option("--id", help="The id of the event in --data.")] = None,
    key: Annotated[str | None, typer.Option(help="The key of the event in --data.")] = None,
    event_type: Annotated[str, typer.Option("--type", help="The type of the event in --data.")] = "event",
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait while backpressure rejects an event's lane, instead of failing."),
    ] = False,
) -> None:
    """Publish events into a pipeline.

    Prints a line of JSON for each: id, partition, entry, duplicate. An id published again within the pipeline's
    dedupe window adds nothing. An event that does not conform to the source's schema ends it with 2: neither that
    event nor those after it are published, and of those before it those that were printed are. An event whose lane
    backpressure rejects ends it with 6, unless it is to wait: what was printed is published, and nothing else.

    \b
    Examples:
      headgate publish --redis-url redis://localhost -p videos --data '{"video": "a.mp4"}' --lane high
      headgate publish --redis-url redis://localhost -p shop/orders --file events.jsonl
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    from headgate.event import NewEvent  # noqa: PLC0415

    if (data is None) == (file is None):
        raise CommandError("give either --data or --file", Exit.INVALID)
    if data is not None:
        one = NewEvent(data=_decode(data, "--data"), id=event_id, key=key, type=event_type, lane=lane)
        events: Iterator[_Placed] = iter([("--data", one)])
    else:
        assert file is not None  # noqa: S101 - the check above says so
        events = _from_file(file, lane)
    run_async(_publish(redis_url, pipeline, events, wait=wait))


async def _publish(redis_url: str, name: str, events: Iterator[_Placed], *, wait: bool) -> None:
    import itertools  # noqa: PLC0415

    from headgate.streams import (  # noqa: PLC0415
        BackpressureError,
        OnBackpressure,
        Publisher,
        RefusedEventError,
    )

    async with connect(redis_url) as server:
        namespace, _, pipeline = name.rpartition("/")
        publisher = await Publisher.open(
            server,
            namespace or "default",
            pipeline,
            on_backpressure=OnBackpressure.WAIT if wait else OnBackpressure.RAISE,
        )
        while batch := list(itertools.islice(events, BATCH)):
            try:
                receipts = await publisher.publish([event for _, event in batch])
            except RefusedEventError as error:
                where, _ = batch[error.place]
                raise CommandError(f"{where}: {error.reason}", Exit.INVALID) from error
            except BackpressureError as error:
                _print(receipt for receipt in error.receipts if receipt is not None)
                where, _ = batch[error.refused[0]]
                raise CommandError(f"{where}: {_refusal(error)}", Exit.REFUSED) from error
            _print(receipts)


def _print(receipts: Iterable[Receipt]) -> None:
    for receipt in receipts:
        said = {
            "id": receipt.id,
            "partition": receipt.partition,
            "entry": receipt.entry,
            "duplicate": receipt.duplicate,
        }
        typer.echo(json.dumps(said))


def _refusal(error: BackpressureError) -> str:
    lanes = " and ".join(sorted(lane.value for lane in error.lanes))
    return (
        f"lane {lanes} is rejected at level {error.level} of backpressure: publish it again in"
        f" {error.retry_after_seconds} s, in a higher lane, or with --wait"
    )


def _from_file(file: Path, lane: Lane) -> Iterator[_Placed]:
    """Each event with the place it stands at."""
    from headgate_cli.samples import as_event  # noqa: PLC0415

    try:
        lines = sys.stdin if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: cannot be read: {error.strerror}", Exit.INVALID) from error
    with lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{file}:{number}"
                    yield where, as_event(_decode(line, where), where, lane)
        except UnicodeDecodeError as error:
            raise CommandError(f"{file}: is not UTF-8: {error}", Exit.INVALID) from error


def _decode(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{where}: {text.strip()[:80]!r} is not JSON: {error}", Exit.INVALID) from error

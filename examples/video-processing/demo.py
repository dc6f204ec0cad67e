"""The quick start: runs the pipeline on 30 uploads, checks every record against the files, shows what scaled when.

It does what `headgate run pipeline.yaml --publish 30` does, with a server of its own that outlives the run, so that the
final records can be read afterwards. Everything it writes is in `.headgate` under the current folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chart
import check
import yaml
from rich.console import Console
from rich.live import Live
from rich.text import Text

from headgate.streams.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.join import Record

UPLOADS = 30
LIMIT_SECONDS = 180  # what is not done by then shows as missing records
MANIFEST = Path(__file__).with_name("pipeline.yaml")
HEADGATE = Path(sys.executable).with_name("headgate")
BRANCHES = ("thumbnail", "transcode", "metadata")


class RunFailedError(Exception):
    """`headgate run` did not end as it should; carries the last lines that it said."""


def main() -> int:
    out = Path(".headgate").absolute()
    for leftover in (out / "media", out / "server"):
        shutil.rmtree(leftover, ignore_errors=True)
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    console.print(f"demo: {UPLOADS} uploads through {MANIFEST.parent.name}, a third one by one, then a burst")
    server = EmbeddedServer.start(out / "server")
    try:
        series = watch(run(server.url, out), console)
        records = asyncio.run(check.read(server.url, "default", "video-processing", partitions=1))
    finally:
        server.stop()
    report = check.check(records, out / "media")
    picture = out / "demo.svg"
    picture.write_text(chart.as_svg(series, f"{UPLOADS} uploads, a burst included: what scaled when"))
    console.print("\nfinal records, each joined from three branches:")
    console.print(as_table(records))
    console.print("\nwhat scaled when:")
    console.print(chart.as_text(series))
    console.print(f"\nthe same as a picture: {os.path.relpath(picture)}")
    for fault in report.faults:
        console.print(fault)
    console.print(f"{report} ({time.monotonic() - started:.0f} s)")
    return 0 if report.passed and report.uploads == UPLOADS else 1


def run(redis_url: str, out: Path) -> Iterator[dict[str, Any]]:
    """What `headgate run --json` says, second by second; ends it once every branch is back at its minimum."""
    command = [HEADGATE, "run", MANIFEST, "--redis-url", redis_url, "--publish", str(UPLOADS), "--json"]
    environment = {**os.environ, "HEADGATE_MEDIA": str(out / "media")}
    log = out / "run.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        yield from _until_idle(process)
    if process.returncode != 0:
        said_last = " ".join(log.read_text().splitlines()[-3:])
        raise RunFailedError(f"headgate run ended with {process.returncode}: {said_last} (log: {log})")


def _until_idle(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    branches = yaml.safe_load(MANIFEST.read_text())["spec"]["branches"]
    minimum = {branch["name"]: branch["scale"]["min"] for branch in branches}
    deadline = time.monotonic() + LIMIT_SECONDS
    was_working = ending = False
    for line in process.stdout or ():
        said = json.loads(line)
        yield said
        if ending or not (seen := said.get("branches")):
            continue
        # Between the uploads that come one by one and the burst all may be idle for a moment.
        working = (said["published"] or 0) < UPLOADS or any(
            each["backlog"] or each["replicas"] > minimum[each["name"]] for each in seen
        )
        if (was_working and not working) or time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            ending = True
        was_working = working


def watch(said: Iterator[dict[str, Any]], console: Console) -> list[chart.Series]:
    """Collects a series a branch, and shows it while it grows: redrawn on a terminal, a line a second elsewhere."""
    samples: dict[str, list[chart.Sample]] = {name: [] for name in BRANCHES}
    series = [chart.Series(name, samples[name]) for name in BRANCHES]
    started = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for moment in said:
            started = started or time.monotonic()
            seconds = time.monotonic() - started
            for branch in moment.get("branches", []):
                samples[branch["name"]].append(
                    chart.Sample(
                        seconds, branch["backlog"] or 0, branch["replicas"], branch["gate"] != "open"
                    )
                )
            if "summary" in moment or not samples[BRANCHES[0]]:
                continue
            if console.is_terminal:
                live.update(Text(chart.as_text(series)), refresh=True)
            else:
                console.print(as_line(seconds, series))
    return series


def as_line(seconds: float, series: list[chart.Series]) -> str:
    """One moment of all branches."""
    parts = [
        f"{each.branch}: backlog {each.samples[-1].backlog:>2}, workers {each.samples[-1].workers}"
        for each in series
    ]
    return f"{seconds:4.0f} s  " + "   ".join(parts)


def as_table(records: list[Record]) -> str:
    """A row a record: the upload, what was made of it, and the milliseconds from publish to final record."""
    rows = [
        f"{'upload':<10}{'codec':<7}{'size':<9}{'frames/s':<12}{'s':<7}{'thumbnail':<11}{'transcode':<21}ms"
    ]
    for record in sorted(records, key=lambda record: record.published_ms):
        if not record.complete:
            rows.append(f"{record.id[:8]:<10}failed {record.failed} missing {list(record.missing)}")
            continue
        of, still, copy = (record.results[name] for name in ("metadata", "thumbnail", "transcode"))
        smaller = f"{_size(copy)}, {100 * copy['bytes'] / of['size_bytes']:.0f} % bytes"
        rows.append(
            f"{record.id[:8]:<10}{of['codec']:<7}{_size(of):<9}{of['frame_rate']:<12}{of['seconds']:<7}"
            f"{_size(still):<11}{smaller:<21}{record.joined_ms - record.published_ms}"
        )
    return "\n".join("  " + row for row in rows)


def _size(result: dict[str, Any]) -> str:
    return f"{result['width']}x{result['height']}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RunFailedError as error:
        sys.exit(f"demo: {error}")

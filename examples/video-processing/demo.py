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
MANIFEST = Path(__file__).with_name("pipeline.yaml")
HEADGATE = Path(sys.executable).with_name("headgate")
BRANCHES = ("thumbnail", "transcode", "metadata")


class RunFailedError(Exception):
    """`headgate run` ended otherwise than it should; what it said is above this line."""


def main() -> int:
    out = Path(".headgate").absolute()
    media = out / "media"
    for leftover in (media, out / "server"):
        shutil.rmtree(leftover, ignore_errors=True)
    console = Console(highlight=False)
    started = time.monotonic()
    console.print(f"demo: {UPLOADS} uploads through {MANIFEST.parent.name}: a third one by one, then a burst")
    server = EmbeddedServer.start(out / "server")
    try:
        series = watch(run(server.url, media), console)
        records = asyncio.run(check.read(server.url, "default", "video-processing", partitions=1))
    finally:
        server.stop()
    report = check.check(records, media)
    picture = out / "demo.svg"
    picture.write_text(chart.as_svg(series, f"{UPLOADS} uploads, a burst included: what scaled when"))
    console.print("\nfinal records, each joined from three branches:")
    console.print(as_table(records))
    console.print("\nwhat scaled when:")
    console.print(chart.as_text(series), soft_wrap=True)
    console.print(f"\nthe same as a picture: {os.path.relpath(picture)}")
    console.print(*report.faults, sep="\n", end="\n" if report.faults else "")
    console.print(f"{report} ({time.monotonic() - started:.0f} s)")
    return 0 if report.passed and report.uploads == UPLOADS else 1


def run(redis_url: str, media: Path) -> Iterator[dict[str, Any]]:
    """What `headgate run --json` says, second by second; ends it once every branch is back at its minimum."""
    command = [HEADGATE, "run", MANIFEST, "--redis-url", redis_url, "--publish", str(UPLOADS), "--json"]
    environment = {**os.environ, "HEADGATE_MEDIA": str(media)}
    branches = yaml.safe_load(MANIFEST.read_text())["spec"]["branches"]
    minimum = {branch["name"]: branch["scale"]["min"] for branch in branches}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        busy = False
        for line in process.stdout or ():
            said = json.loads(line)
            yield said
            seen = said.get("branches", [])
            working = any(
                branch["backlog"] or branch["replicas"] > minimum[branch["name"]] for branch in seen
            )
            if busy and seen and not working:
                process.send_signal(signal.SIGINT)
            busy = working
    if process.returncode != 0:
        raise RunFailedError(f"headgate run ended with {process.returncode}")


def watch(said: Iterator[dict[str, Any]], console: Console) -> list[chart.Series]:
    """Collects a series a branch, and shows it while it grows: redrawn on a terminal, a line a second elsewhere."""
    started = time.monotonic()
    samples: dict[str, list[chart.Sample]] = {name: [] for name in BRANCHES}
    series = [chart.Series(name, samples[name]) for name in BRANCHES]
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for moment in said:
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
    """One moment of all branches: `name backlog/workers`."""
    now = [(each.branch, each.samples[-1]) for each in series]
    parts = [f"{name} {sample.backlog:>2} waiting, {sample.workers} working" for name, sample in now]
    return f"{seconds:4.0f} s  " + "   ".join(parts)


def as_table(records: list[Record]) -> str:
    """A row a record: the upload, what was made of it, and the milliseconds from publish to final record."""
    rows = [
        f"  {'upload':<10}{'codec':<7}{'size':<9}{'frames/s':<12}{'s':<7}{'thumbnail':<11}{'transcode':<19}ms"
    ]
    for record in sorted(records, key=lambda record: record.published_ms):
        if not record.complete:
            rows.append(f"  {record.id[:8]:<10}failed {record.failed} missing {list(record.missing)}")
            continue
        of, still, copy = (record.results[name] for name in ("metadata", "thumbnail", "transcode"))
        smaller = f"{copy['width']}x{copy['height']} {100 * copy['bytes'] / of['size_bytes']:3.0f} % bytes"
        rows.append(
            f"  {record.id[:8]:<10}{of['codec']:<7}{of['width']}x{of['height']:<5}{of['frame_rate']:<12}"
            f"{of['seconds']:<7}{still['width']}x{still['height']:<7}{smaller:<19}"
            f"{record.joined_ms - record.published_ms}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RunFailedError as error:
        sys.exit(f"demo: {error}")

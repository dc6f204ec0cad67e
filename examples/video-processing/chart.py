"""What scaled when: workers and backlog of each branch over time, as text and as an SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
WIDTH, PANEL, LEFT, RIGHT, GAP = 760, 92, 112, 52, 30
BACKLOG, WORKERS, DELAYED = "#7aa6d8", "#d9662b", "#b8860b"


@dataclass(frozen=True)
class Sample:
    """A branch at one moment: seconds since the start, events unsettled, workers, and whether lanes waited."""

    seconds: float
    backlog: int
    workers: int
    delayed: bool


@dataclass(frozen=True)
class Series:
    """A branch's samples, in order of time."""

    branch: str
    samples: Sequence[Sample]

    def by_second(self) -> list[Sample]:
        """The last sample of each whole second; a second without one repeats the one before."""
        if not self.samples:
            return []
        last = {int(sample.seconds): sample for sample in self.samples}
        shown, current = [], self.samples[0]
        for second in range(int(self.samples[-1].seconds) + 1):
            current = last.get(second, current)
            shown.append(current)
        return shown


def as_text(series: Sequence[Series]) -> str:
    """Two rows a branch, a column a second: backlog as bars, workers as digits; `^` where lanes waited."""
    length = max(len(each.by_second()) for each in series)
    ticks = "".join(f"{second:<5}" for second in range(0, length, 5))
    lines = [f"{'seconds':<21} {ticks.rstrip()}"]
    for each in series:
        samples = each.by_second()
        most = max(1, *(sample.backlog for sample in samples))
        bars = "".join(BARS[-(-sample.backlog * 8 // most)] for sample in samples)
        workers = "".join(str(sample.workers) if sample.workers < 10 else "+" for sample in samples)
        peak = max(sample.workers for sample in samples)
        lines.append(f"{each.branch:<11} {'backlog':<9} {bars:<{length}}  at most {most} events")
        lines.append(f"{'':<11} {'workers':<9} {workers:<{length}}  at most {peak}")
        if any(sample.delayed for sample in samples):
            waits = "".join("^" if sample.delayed else " " for sample in samples)
            lines.append(f"{'':<11} {'low waits':<9} {waits}".rstrip())
    return "\n".join(lines)


def as_svg(series: Sequence[Series], title: str) -> str:
    """One panel a branch: backlog as an area, workers as steps, from zero; a bar below where lanes waited."""
    seconds = max(1.0, *(sample.seconds for each in series for sample in each.samples))
    height = 56 + len(series) * (PANEL + GAP) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, title, size=15, weight="bold"),
        _text(LEFT, 40, "backlog, events", colour="#3f6fa3"),
        _text(LEFT + 110, 40, "workers", colour=WORKERS),
        _text(LEFT + 175, 40, "low lane waits", colour=DELAYED),
    ]
    top = 56
    most_workers = max(1, *(sample.workers for each in series for sample in each.samples))
    for each in series:
        parts += _panel(each, top, seconds, most_workers)
        top += PANEL + GAP
    step = next(step for step in (1, 2, 5, 10, 20, 60, 300, 3600, 86400) if seconds / step <= 16)
    parts += [
        _text(_x(tick, seconds), top - GAP + 22, f"{tick} s", anchor="middle")
        for tick in range(0, int(seconds) + 1, step)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(each: Series, top: int, seconds: float, most_workers: int) -> list[str]:
    bottom = top + PANEL
    most_backlog = max(1, *(sample.backlog for sample in each.samples))
    area, steps, waits = [f"M{LEFT},{bottom}"], [], []
    previous = bottom
    for sample, following in zip(each.samples, [*each.samples[1:], None], strict=True):
        x = _x(sample.seconds, seconds)
        end = _x(following.seconds, seconds) if following else x
        area.append(f"L{x:.1f},{bottom - sample.backlog / most_backlog * PANEL:.1f}")
        y = bottom - sample.workers / most_workers * PANEL
        steps.append(f"{'L' if steps else 'M'}{x:.1f},{previous:.1f} L{x:.1f},{y:.1f}")
        previous = y
        if sample.delayed:
            width = max(2.0, end - x)
            waits.append(
                f'<rect x="{x:.1f}" y="{bottom + 3}" width="{width:.1f}" height="4" fill="{DELAYED}"/>'
            )
    area.append(f"L{_x(each.samples[-1].seconds, seconds):.1f},{bottom} Z")
    return [
        f'<path d="{" ".join(area)}" fill="{BACKLOG}" fill-opacity="0.55"/>',
        f'<path d="{" ".join(steps)}" fill="none" stroke="{WORKERS}" stroke-width="2.5"/>',
        *waits,
        f'<path d="M{LEFT},{top} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="#888888"/>',
        _text(LEFT - 10, top + PANEL // 2, each.branch, anchor="end", weight="bold"),
        _text(LEFT - 6, top + 10, str(most_backlog), anchor="end", colour="#3f6fa3"),
        _text(WIDTH - RIGHT + 6, top + 10, str(most_workers), colour=WORKERS),
    ]


def _x(second: float, seconds: float) -> float:
    return LEFT + second / seconds * (WIDTH - LEFT - RIGHT)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = "#333333",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )

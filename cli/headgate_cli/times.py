"""Times as people give them to a verb: how long ago, or when."""

from __future__ import annotations

import re

from headgate_cli.exits import CommandError, Exit

_AGO = re.compile(r"(\d{1,9})([smhd])")
_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment_ms(option: str, text: str, now_ms: int) -> int:
    """Milliseconds since 1970 of 90s, 15m, 2h or 1d ago, or of a time as RFC 3339 has it; raises CommandError."""
    from headgate.streams.settings import time_ms  # noqa: PLC0415

    if ago := _AGO.fullmatch(text):
        return max(0, now_ms - int(ago[1]) * _MS[ago[2]])
    try:
        return time_ms(text)
    except ValueError as error:
        raise CommandError(
            f"{option}: {error}, nor how long ago it was, such as 90s, 15m, 2h or 1d", Exit.INVALID
        ) from None


def time_text(ms: int) -> str:
    """A time as RFC 3339 has it, to the second."""
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Server-side scripts: Lua, one file each in scripts/, known to the server by their SHA-1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

_INCLUDE = "--@include "


@dataclass(frozen=True)
class Script:
    """One script's text; a line `--@include NAME` is replaced by that file, which is no script of its own."""

    name: str

    @cached_property
    def text(self) -> str:
        """The script as the server gets it."""
        return "\n".join(_lines(self.name))

    @cached_property
    def sha(self) -> str:
        """What EVALSHA calls it by."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _lines(name: str) -> list[str]:
    source = resources.files(__package__).joinpath("scripts", name).read_text()
    lines: list[str] = []
    for line in source.splitlines():
        lines += _lines(line.removeprefix(_INCLUDE)) if line.startswith(_INCLUDE) else [line]
    return lines


PUBLISH = Script("publish.lua")
ENSURE = Script("ensure.lua")
REGISTER = Script("register.lua")
READ = Script("read.lua")
SETTLE = Script("settle.lua")
BEAT = Script("beat.lua")
RIPEN = Script("ripen.lua")
RETIRE = Script("retire.lua")
SWEEP = Script("sweep.lua")
EXPIRE = Script("expire.lua")
DELIVER = Script("deliver.lua")
MEASURE = Script("measure.lua")
COUNT = Script("count.lua")
HISTORY = Script("history.lua")
REPLAY = Script("replay.lua")
REDRIVE = Script("redrive.lua")
OWN = Script("own.lua")
CLAIM = Script("claim.lua")
RATE = Script("rate.lua")
UNPARK = Script("unpark.lua")
THROUGH = Script("through.lua")
MOVED = Script("moved.lua")
SEEN = Script("seen.lua")
ALL = (
    PUBLISH,
    ENSURE,
    REGISTER,
    READ,
    SETTLE,
    BEAT,
    RIPEN,
    RETIRE,
    SWEEP,
    EXPIRE,
    DELIVER,
    MEASURE,
    COUNT,
    HISTORY,
    REPLAY,
    REDRIVE,
    OWN,
    CLAIM,
    RATE,
    UNPARK,
    THROUGH,
    MOVED,
    SEEN,
)

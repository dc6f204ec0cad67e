"""Events to try a pipeline with: from the function its manifest names, or numbered ones."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.event import Lane, NewEvent
from headgate_cli.exits import CommandError, Exit
from headgate_cli.manifests import SAMPLE_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headgate_cli.manifests import Manifest


def sampled(manifests: Sequence[Manifest]) -> Manifest:
    """The pipeline that sample events are for: the first that has the annotation, or the only one there is.

    Raises CommandError when there are several and none has it.
    """
    for manifest in manifests:
        if manifest.sample_events is not None or len(manifests) == 1:
            return manifest
    raise CommandError(
        f"--publish: none of the {len(manifests)} pipelines of {manifests[0].file} has the annotation {SAMPLE_EVENTS}:"
        ' add it to the one that takes them, "module:function"',
        Exit.INVALID,
    )


def sample_events(manifest: Manifest, count: int) -> Iterator[NewEvent]:
    """`count` events of `headgate.dev/sample-events`, or without it `{"n": 0}`, `{"n": 1}`, ...

    The annotation is `module:function`, found beside the manifest: `f(count)` gives NewEvents, or objects with `data`
    and, if wanted, `id`, `type`, `source`, `key`, `lane`. Raises CommandError at once when there is no such function,
    on the way when it gives something else.
    """
    if manifest.sample_events is None:
        return (NewEvent(data={"n": number}) for number in range(count))
    pipeline = f"pipeline {manifest.label}: " if manifest.label else ""
    where = f"{pipeline}annotation {SAMPLE_EVENTS}: {manifest.sample_events!r}"
    module, colon, name = manifest.sample_events.partition(":")
    if not colon:
        raise CommandError(f"{where}: write module:function", Exit.INVALID)
    folder = str(manifest.file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CommandError(f"{where}: cannot be imported from {folder}: {error}", Exit.INVALID) from error
    return _checked(function(count), where)


def as_event(value: Any, where: str, lane: Lane = Lane.NORMAL) -> NewEvent:
    """An event from decoded JSON, in `lane` when it names none; raises CommandError that says what is wrong."""
    if isinstance(value, NewEvent):
        return value
    if not isinstance(value, dict) or "data" not in value:
        raise CommandError(
            f"{where}: {str(value)[:80]} is no event: write an object with `data`", Exit.INVALID
        )
    if unknown := value.keys() - set(NewEvent.__struct_fields__):
        known = ", ".join(NewEvent.__struct_fields__)
        raise CommandError(
            f"{where}: {min(unknown)!r} is no field of an event; these are: {known}", Exit.INVALID
        )
    try:
        return msgspec.convert({"lane": lane, **value}, NewEvent)
    except msgspec.ValidationError as error:
        raise CommandError(f"{where}: {error}", Exit.INVALID) from error


def _checked(events: Iterable[Any], where: str) -> Iterator[NewEvent]:
    for number, event in enumerate(events):
        yield as_event(event, f"{where}: event {number}")

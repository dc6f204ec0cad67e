"""The video pipeline's handlers, and the uploads it is shown with.

An event names its video by a path in the media folder, `{"video": "uploads/<id>.mp4"}`; bodies never pass
through the streams. Each handler writes one file, named after the event's id: doing it twice, even at the same
time, leaves one file and gives one answer.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import av
import media

from headgate import Lane, NewEvent, PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate import Event

LONGEST_THUMBNAIL_SIDE = 160
LONGEST_TRANSCODE_SIDE = 320

PATTERNS = (
    media.Pattern(".mp4", "mpeg4", 640, 360, Fraction(24), 2),
    media.Pattern(".webm", "libvpx", 480, 270, Fraction(25), 1),
    media.Pattern(".mp4", "libx264", 854, 480, Fraction(30), 2),
    media.Pattern(".mkv", "libx264", 960, 540, Fraction(30000, 1001), 1),
    media.Pattern(".webm", "libvpx-vp9", 640, 480, Fraction(15), 2),
    media.Pattern(".mov", "mpeg4", 360, 640, Fraction(50), 1),
)
BURST_LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW, Lane.NORMAL, Lane.LOW)


def media_folder() -> Path:
    """Where uploads are and results go: HEADGATE_MEDIA, or this user's own folder for temporary files."""
    named = os.environ.get("HEADGATE_MEDIA")
    return Path(named) if named else Path(tempfile.gettempdir(), f"headgate-media-{os.getuid()}")


def thumbnail(event: Event) -> dict[str, Any]:
    """A JPEG of the frame in the middle: `file`, `width`, `height`, `bytes`."""
    return _made(event, "thumbnails", ".jpg", media.write_still, LONGEST_THUMBNAIL_SIDE)


def transcode(event: Event) -> dict[str, Any]:
    """A smaller H.264 copy with the same frames: `file`, `width`, `height`, `bytes`."""
    return _made(event, "transcodes", ".mp4", media.write_smaller, LONGEST_TRANSCODE_SIDE)


def metadata(event: Event) -> dict[str, Any]:
    """What the upload is: `seconds`, `codec`, `width`, `height`, `frame_rate`, `size_bytes`."""
    video = _video(event)
    try:
        return asdict(media.probe(video))
    except av.error.InvalidDataError as error:
        raise PermanentError(f"{video}: no video can be read from it ({error}); upload it again") from error


def uploads(count: int) -> Iterator[NewEvent]:
    """Sample events: `count` new videos; a third as each is made, the rest as one burst in all lanes."""
    folder = media_folder()
    steady = count // 3
    for number in range(steady):
        yield _upload(folder, number, Lane.NORMAL)
    yield from [
        _upload(folder, number, BURST_LANES[number % len(BURST_LANES)]) for number in range(steady, count)
    ]


def _upload(folder: Path, number: int, lane: Lane) -> NewEvent:
    upload_id = uuid.uuid4().hex
    # 137 degrees a step: neighbours in a run of uploads look least alike.
    pattern = replace(PATTERNS[number % len(PATTERNS)], hue=number * 137 % 360)
    name = f"uploads/{upload_id}{pattern.suffix}"
    media.write_pattern(folder / name, pattern)
    return NewEvent(id=upload_id, type="video.uploaded", data={"video": name}, key=upload_id, lane=lane)


def _made(
    event: Event,
    subfolder: str,
    suffix: str,
    write: Callable[[Path, Path, int], None],
    longest: int,
) -> dict[str, Any]:
    video = _video(event)
    name = f"{subfolder}/{quote(event.id, safe='')}{suffix}"
    target = media_folder() / name
    try:
        if not target.exists():
            write(video, target, longest)
    except av.error.InvalidDataError as error:
        raise PermanentError(f"{video}: no video can be read from it ({error}); upload it again") from error
    width, height = media.size(target)
    return {"file": name, "width": width, "height": height, "bytes": target.stat().st_size}


def _video(event: Event) -> Path:
    name = event.data.get("video") if isinstance(event.data, dict) else None
    if not isinstance(name, str):
        raise PermanentError(
            f"data.video: {name!r} is no path; publish an event as {{'video': 'uploads/<file>'}}, "
            "a path in the media folder"
        )
    folder = media_folder().resolve()
    video = (folder / name).resolve()
    if not video.is_relative_to(folder):
        raise PermanentError(
            f"data.video: {name!r} lies outside the media folder {folder}; name a file in it"
        )
    return video

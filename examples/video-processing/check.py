"""Checks the final records against the files themselves: every upload one record, every word in it true.

Nothing the handlers computed is believed: the files are decoded again, frame by frame, by this module's own
reading.

    python check.py --redis-url redis://127.0.0.1:6379 --namespace default --media /media
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from headgate.join import read_records
from headgate.streams import PipelineKeys, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.video.frame import VideoFrame

    from headgate.join import Record

BRANCHES = ("thumbnail", "transcode", "metadata")
THUMBNAIL_SIDE, TRANSCODE_SIDE = 160, 320
# Mean difference of a colour, 0 to 255, of two pictures shrunk to 8 x 8. Copies of one picture differ by 3 at
# most; the two most alike of 30 uploads by 6.
SAME_PICTURE = 5.0


@dataclass(frozen=True)
class Seen:
    """A file as decoding shows it: pixels, frames, seconds, and its middle frame shrunk to 8 x 8 colours."""

    codec: str
    width: int
    height: int
    frames: int
    seconds: float
    colours: bytes

    @property
    def frame_seconds(self) -> float:
        return self.seconds / self.frames


@dataclass(frozen=True)
class Report:
    """How many uploads there are, how many have one right record, and what is wrong with the others."""

    uploads: int
    right: int
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.uploads > 0 and self.right == self.uploads and not self.faults

    def __str__(self) -> str:
        once = ", each exactly once" if self.passed else ""
        return f"{self.right} of {self.uploads} records right{once}"


def check(records: Sequence[Record], folder: Path) -> Report:
    """Compares the records with the uploads of the media folder and all that was made from them."""
    uploads = {path.stem: path for path in (folder / "uploads").iterdir() if not path.name.startswith(".")}
    by_id: dict[str, list[Record]] = {}
    for record in records:
        by_id.setdefault(record.id, []).append(record)
    faults = [f"{stray}: a record of no upload" for stray in by_id.keys() - uploads.keys()]
    right = 0
    for upload_id, upload in sorted(uploads.items()):
        found = by_id.get(upload_id, [])
        wrong = (
            list(faults_of(found[0], upload, folder))
            if len(found) == 1
            else [f"it has {len(found)} records instead of 1"]
        )
        right += not wrong
        faults += [f"{upload_id}: {fault}" for fault in wrong]
    return Report(len(uploads), right, tuple(faults))


def faults_of(record: Record, upload: Path, folder: Path) -> Iterator[str]:
    """Every way in which a record and its files are not what they should be; nothing when all is right."""
    if not record.complete or set(record.results) != set(BRANCHES):
        yield f"not complete: failed {record.failed}, missing {list(record.missing)}"
        return
    original = look(upload)
    yield from _thumbnail_faults(record.results["thumbnail"], original, folder)
    yield from _transcode_faults(record.results["transcode"], original, upload.stat().st_size, folder)
    yield from _metadata_faults(record.results["metadata"], original, upload.stat().st_size)


def look(path: Path) -> Seen:
    """Decodes the whole file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.time or 0), frame) for frame in container.decode(stream)]
        rate = float(stream.average_rate or 1)
        seconds = frames[-1][0] - frames[0][0] + 1 / rate
        middle = next((frame for time, frame in frames if time >= seconds / 2), frames[-1][1])
        return Seen(
            stream.codec.canonical_name, stream.width, stream.height, len(frames), seconds, _colours(middle)
        )


def _thumbnail_faults(result: dict[str, Any], original: Seen, folder: Path) -> Iterator[str]:
    path = folder / result["file"]
    yield from _size_faults("thumbnail", result, path)
    if path.read_bytes()[:3] != b"\xff\xd8\xff":
        yield f"thumbnail {path} is no JPEG"
        return
    still = look(path)
    yield from _shape_faults("thumbnail", still, result, original, THUMBNAIL_SIDE)
    if _difference(still.colours, original.colours) > SAME_PICTURE:
        yield f"thumbnail {path} shows another picture than the upload"


def _transcode_faults(
    result: dict[str, Any], original: Seen, upload_bytes: int, folder: Path
) -> Iterator[str]:
    path = folder / result["file"]
    yield from _size_faults("transcode", result, path)
    copy = look(path)
    yield from _shape_faults("transcode", copy, result, original, TRANSCODE_SIDE)
    if copy.codec != "h264":
        yield f"transcode is {copy.codec}, not h264"
    if copy.width >= original.width or copy.height >= original.height:
        yield f"transcode is not smaller: {copy.width}x{copy.height}"
    if path.stat().st_size >= upload_bytes:
        yield f"transcode has {path.stat().st_size} bytes, the upload {upload_bytes}"
    if copy.frames != original.frames:
        yield f"transcode has {copy.frames} frames, the upload {original.frames}"
    if abs(copy.seconds - original.seconds) > original.frame_seconds:
        yield f"transcode lasts {copy.seconds:.3f} s, the upload {original.seconds:.3f} s"
    if _difference(copy.colours, original.colours) > SAME_PICTURE:
        yield f"transcode {path} shows another picture than the upload"


def _metadata_faults(result: dict[str, Any], original: Seen, upload_bytes: int) -> Iterator[str]:
    for field, is_so in (
        ("codec", original.codec),
        ("width", original.width),
        ("height", original.height),
        ("size_bytes", upload_bytes),
    ):
        if result[field] != is_so:
            yield f"metadata says {field} {result[field]!r}, the file {is_so!r}"
    if abs(result["seconds"] - original.seconds) > original.frame_seconds:
        yield f"metadata says {result['seconds']} s, the file {original.seconds:.3f} s"
    measured = original.frames / original.seconds
    if abs(float(Fraction(result["frame_rate"])) - measured) > 0.01 * measured:
        yield f"metadata says {result['frame_rate']} frames/s, the file {measured:.3f}"


def _size_faults(branch: str, result: dict[str, Any], path: Path) -> Iterator[str]:
    if path.stat().st_size != result["bytes"]:
        yield f"{branch} says {result['bytes']} bytes, its file has {path.stat().st_size}"


def _shape_faults(
    branch: str, made: Seen, result: dict[str, Any], original: Seen, longest: int
) -> Iterator[str]:
    if (made.width, made.height) != (result["width"], result["height"]):
        yield f"{branch} says {result['width']}x{result['height']}, its file is {made.width}x{made.height}"
    scale = longest / max(original.width, original.height)
    if abs(made.width - original.width * scale) > 1 or abs(made.height - original.height * scale) > 1:
        yield f"{branch} is {made.width}x{made.height}, the upload {original.width}x{original.height}"


def _colours(frame: VideoFrame) -> bytes:
    plane = frame.reformat(width=8, height=8, format="rgb24").planes[0]
    packed = bytes(plane)
    return b"".join(packed[row * plane.line_size :][:24] for row in range(8))


def _difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


async def read(redis_url: str, namespace: str, pipeline: str, partitions: int) -> list[Record]:
    """All final records of a pipeline."""
    server = Server.connect(redis_url)
    try:
        return list(await read_records(server, PipelineKeys(namespace, pipeline, partitions)))
    finally:
        await server.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks final records against the media they speak of.")
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--pipeline", default="video-processing")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--media", type=Path, required=True, help="the media folder")
    given = parser.parse_args()
    records = asyncio.run(read(given.redis_url, given.namespace, given.pipeline, given.partitions))
    report = check(records, given.media)
    print(*report.faults, report, sep="\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""Reading and writing media with PyAV: what a video is, a still of it, a smaller copy of it, a test pattern.

Everything is written beside its final name first and gets that name when whole, so a file that is there is
complete. The first to finish wins and its file stays: an encoder may give other bytes the next time.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.filter import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.video.frame import VideoFrame

# Frame rates that real cameras have are a ratio with a small denominator (30000/1001); containers round them.
MOST_DENOMINATOR = 1001


@dataclass(frozen=True)
class Probe:
    """What a video file says of itself: seconds, codec, pixels, frames a second (a ratio), bytes on disk."""

    seconds: float
    codec: str
    width: int
    height: int
    frame_rate: str
    size_bytes: int


@dataclass(frozen=True)
class Pattern:
    """A test pattern to encode; `hue` (degrees) turns its colours, so that no two uploads look the same."""

    suffix: str
    encoder: str
    width: int
    height: int
    rate: Fraction
    seconds: int
    hue: int = 0


# How each encoder is told to hurry: the uploads are only there to be worked on.
QUICK = {
    "mpeg4": {},
    "libx264": {"preset": "ultrafast"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def probe(path: Path) -> Probe:
    """Reads the headers; raises av.error.InvalidDataError when the file is no video."""
    with av.open(str(path)) as container:
        stream = video_stream(container)
        rate = Fraction(stream.average_rate or stream.guessed_rate).limit_denominator(MOST_DENOMINATOR)
        return Probe(
            seconds=round(_seconds(container, stream), 3),
            codec=stream.codec.canonical_name,
            width=stream.width,
            height=stream.height,
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            size_bytes=path.stat().st_size,
        )


def fit(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size of the same shape with no side over `longest`, never larger; sides are even, for H.264."""
    scale = min(1.0, longest / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a video or picture."""
    with av.open(str(path)) as container:
        stream = video_stream(container)
        return stream.width, stream.height


def write_still(source: Path, target: Path, longest: int) -> None:
    """Writes the frame in the middle of `source` as a JPEG, unless it is there."""
    with av.open(str(source)) as container:
        stream = video_stream(container)
        middle = _seconds(container, stream) / 2
        still = None
        for frame in container.decode(stream):
            still = frame
            if (frame.time or 0.0) >= middle:
                break
    if still is None:
        raise av.error.InvalidDataError(0, "it has no frame", str(source))
    width, height = fit(still.width, still.height, longest)
    with appearing(target) as unfinished:
        still.reformat(width=width, height=height, format="yuvj420p").save(str(unfinished))


def write_smaller(source: Path, target: Path, longest: int) -> None:
    """Writes `source` as H.264 in MP4, every frame at its own time, unless it is there."""
    with av.open(str(source)) as container, appearing(target) as unfinished:
        stream = video_stream(container)
        width, height = fit(stream.width, stream.height, longest)
        with av.open(str(unfinished), "w", options={"movflags": "+faststart"}) as out:
            encoded = out.add_stream(
                "libx264",
                rate=Fraction(stream.average_rate or stream.guessed_rate).limit_denominator(MOST_DENOMINATOR),
                options={"preset": "slower", "crf": "28"},
            )
            encoded.width, encoded.height, encoded.pix_fmt = width, height, "yuv420p"
            encoded.codec_context.time_base = stream.time_base
            # Scaling out is the pipeline's part: a transcode takes one core and no more.
            encoded.codec_context.thread_count = 1
            for frame in container.decode(stream):
                out.mux(encoded.encode(_plain(frame.reformat(width=width, height=height, format="yuv420p"))))
            out.mux(encoded.encode(None))


def write_pattern(target: Path, pattern: Pattern) -> None:
    """Encodes a moving test pattern."""
    with appearing(target) as unfinished, av.open(str(unfinished), "w") as out:
        stream = out.add_stream(pattern.encoder, rate=pattern.rate, options=QUICK[pattern.encoder])
        stream.width, stream.height, stream.pix_fmt = pattern.width, pattern.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(_pattern_frames(pattern)):
            frame.pts, frame.time_base = number, 1 / pattern.rate
            out.mux(stream.encode(_plain(frame)))
        out.mux(stream.encode(None))


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A name beside `target` to write to; becomes `target` when the block ends well and nothing else has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        yield unfinished
        # A hard link, unlike a rename, never replaces what another attempt has answered with.
        with contextlib.suppress(FileExistsError):
            target.hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream; raises av.error.InvalidDataError when there is none."""
    if not container.streams.video:
        raise av.error.InvalidDataError(0, "it has no video stream", container.name)
    return container.streams.video[0]


def _seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None:
        raise av.error.InvalidDataError(0, "it does not say how long it is", container.name)
    return container.duration / av.time_base


def _pattern_frames(pattern: Pattern) -> Iterator[VideoFrame]:
    graph = Graph()
    size = f"{pattern.width}x{pattern.height}"
    source = graph.add("testsrc2", f"size={size}:rate={pattern.rate}:duration={pattern.seconds}")
    turned = graph.add("hue", f"h={pattern.hue}")
    sink = graph.add("buffersink")
    source.link_to(turned)
    turned.link_to(sink)
    graph.configure()
    while True:
        try:
            yield sink.pull().reformat(format="yuv420p")
        except EOFError:
            return


def _plain(frame: VideoFrame) -> VideoFrame:
    # A decoded frame remembers that it was a key frame; left so, the encoder would make it one again.
    frame.pict_type = 0
    return frame

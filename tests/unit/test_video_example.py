"""The video example's handlers on real files, and the check that the demo and the cluster tests trust."""

from __future__ import annotations

import importlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image

from headgate import PermanentError
from headgate.event import Event, Lane, encode_data
from headgate.join import Record
from headgate_operator.pipeline import load_pipeline
from headgate_operator.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from headgate.event import NewEvent

EXAMPLE = Path(__file__).parents[2] / "examples" / "video-processing"


@dataclass(frozen=True)
class Example:
    """The example's modules, imported as a worker imports them, and its media folder."""

    videos: ModuleType
    check: ModuleType
    chart: ModuleType
    media: ModuleType
    folder: Path


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setenv("HEADGATE_MEDIA", str(tmp_path))
    names = ("videos", "check", "chart", "media")
    modules = [importlib.import_module(name) for name in names]
    yield Example(*modules, folder=tmp_path)
    for name in names:
        del sys.modules[name]


def as_delivered(upload: NewEvent) -> Event:
    assert upload.id is not None
    return Event(id=upload.id, body=encode_data(upload.data), lane=upload.lane)


def joined(example: Example, upload: NewEvent) -> Record:
    event = as_delivered(upload)
    results = {name: getattr(example.videos, name)(event) for name in example.check.BRANCHES}
    return Record(
        id=event.id,
        partition=0,
        entry="1-1",
        complete=True,
        results=results,
        failed={},
        missing=(),
        published_ms=0,
        joined_ms=1,
    )


def altered(record: Record, branch: str, **fields: Any) -> Record:
    results = {**record.results, branch: {**record.results[branch], **fields}}
    return Record(
        **{name: getattr(record, name) for name in record.__struct_fields__ if name != "results"},
        results=results,
    )


def test_every_kind_of_upload_gets_a_right_record(example: Example) -> None:
    uploads = list(example.videos.uploads(12))
    report = example.check.check([joined(example, upload) for upload in uploads], example.folder)
    assert report.faults == ()
    assert str(report) == "12 of 12 records right, each exactly once"


def test_handling_an_upload_again_gives_the_same_answer_and_the_same_files(example: Example) -> None:
    upload = next(example.videos.uploads(3))
    first = joined(example, upload)
    files = {path: path.read_bytes() for path in example.folder.rglob("*") if path.is_file()}
    assert joined(example, upload) == first
    assert {path: path.read_bytes() for path in example.folder.rglob("*") if path.is_file()} == files
    assert len(files) == 3  # the upload, its thumbnail, its transcode; nothing unfinished lies about


@pytest.mark.parametrize("branch", ["thumbnail", "transcode"])
def test_attempts_at_the_same_time_agree_on_one_file(example: Example, branch: str) -> None:
    event = as_delivered(next(example.videos.uploads(3)))
    with ThreadPoolExecutor(4) as threads:
        results = [
            each.result()
            for each in [threads.submit(getattr(example.videos, branch), event) for _ in range(4)]
        ]
    assert results == [results[0]] * 4
    assert (example.folder / results[0]["file"]).stat().st_size == results[0]["bytes"]
    assert len([path for path in example.folder.rglob("*") if path.is_file()]) == 2


def test_a_thumbnail_is_a_jpeg_that_others_can_read(example: Example) -> None:
    result = example.videos.thumbnail(as_delivered(next(example.videos.uploads(3))))
    with Image.open(example.folder / result["file"]) as image:
        assert (image.format, image.size) == ("JPEG", (160, 90))


def test_uploads_burst_in_all_three_lanes_with_ids_and_files_of_their_own(example: Example) -> None:
    uploads = list(example.videos.uploads(30))
    assert len({upload.id for upload in uploads}) == 30
    assert {upload.lane for upload in uploads[:10]} == {Lane.NORMAL}
    assert {upload.lane for upload in uploads[10:]} == set(Lane)
    assert all((example.folder / upload.data["video"]).stat().st_size > 1000 for upload in uploads)


@pytest.mark.parametrize("branch", ["thumbnail", "transcode", "metadata"])
def test_what_can_never_be_handled_is_said_to_be_permanent(example: Example, branch: str) -> None:
    (example.folder / "uploads").mkdir()
    (example.folder / "uploads" / "text.mp4").write_text("this is no video " * 100)
    handler = getattr(example.videos, branch)
    for data, message in (
        ({"video": "uploads/text.mp4"}, "no video can be read"),
        ({"video": "../../etc/passwd"}, "outside the media folder"),
        ({"clip": 1}, "is no path"),
        (None, "is no path"),
    ):
        with pytest.raises(PermanentError, match=message):
            handler(Event(id="upload", body=encode_data(data)))
    assert [path.name for path in example.folder.rglob("*") if path.is_file()] == ["text.mp4"]


@pytest.mark.parametrize("branch", ["thumbnail", "transcode", "metadata"])
def test_a_file_that_is_not_there_yet_is_tried_again(example: Example, branch: str) -> None:
    with pytest.raises(FileNotFoundError):
        getattr(example.videos, branch)(Event(id="late", body=b'{"video": "uploads/late.mp4"}'))


def test_an_id_that_is_no_file_name_stays_in_the_media_folder(example: Example) -> None:
    upload = next(example.videos.uploads(3))
    result = example.videos.thumbnail(Event(id="../../a b", body=encode_data(upload.data)))
    assert (example.folder / result["file"]).resolve().parent == example.folder / "thumbnails"


def test_the_check_finds_a_record_that_is_missing_doubled_or_of_no_upload(example: Example) -> None:
    uploads = list(example.videos.uploads(3))
    records = [joined(example, upload) for upload in uploads]
    missing = example.check.check(records[:2], example.folder)
    assert (missing.right, missing.faults) == (2, (f"{uploads[2].id}: it has 0 records instead of 1",))
    doubled = example.check.check([*records, records[0]], example.folder)
    assert (doubled.right, doubled.faults) == (2, (f"{uploads[0].id}: it has 2 records instead of 1",))
    (example.folder / uploads[0].data["video"]).unlink()
    stray = example.check.check(records, example.folder)
    assert (stray.right, stray.faults) == (2, (f"{uploads[0].id}: a record of no upload",))
    assert not any(report.passed for report in (missing, doubled, stray))


def test_the_check_finds_every_word_that_is_not_true(example: Example) -> None:
    upload = next(example.videos.uploads(3))
    record = joined(example, upload)
    video = example.folder / upload.data["video"]
    for branch, fields, fault in (
        ("thumbnail", {"width": 200}, "thumbnail says 200x"),
        ("thumbnail", {"bytes": 1}, "thumbnail says 1 bytes"),
        ("thumbnail", {"file": record.results["transcode"]["file"]}, "no JPEG"),
        ("transcode", {"file": upload.data["video"]}, "not h264"),
        ("transcode", {"file": upload.data["video"]}, "not smaller"),
        ("metadata", {"codec": "av1"}, "metadata says codec 'av1'"),
        ("metadata", {"seconds": 2.1}, "metadata says 2.1 s"),
        ("metadata", {"frame_rate": "25/1"}, "metadata says 25/1 frames/s"),
        ("metadata", {"size_bytes": 0}, "metadata says size_bytes 0"),
    ):
        faults = list(example.check.faults_of(altered(record, branch, **fields), video, example.folder))
        assert any(fault in found for found in faults), (fault, faults)


def test_the_check_finds_the_picture_of_another_upload(example: Example) -> None:
    one, other = (joined(example, upload) for upload in list(example.videos.uploads(7))[::6])
    for branch in ("thumbnail", "transcode"):
        shutil.copy(
            example.folder / other.results[branch]["file"], example.folder / one.results[branch]["file"]
        )
        video = next(example.folder.glob(f"uploads/{one.id}.*"))
        assert any(
            "another picture" in fault for fault in example.check.faults_of(one, video, example.folder)
        )


def test_the_check_finds_a_transcode_that_lost_frames(example: Example) -> None:
    upload = next(example.videos.uploads(3))
    record = joined(example, upload)
    copy = example.folder / record.results["transcode"]["file"]
    copy.unlink()
    example.media.write_pattern(copy, example.media.Pattern(".mp4", "libx264", 320, 180, Fraction(24), 1))
    faults = list(example.check.faults_of(record, example.folder / upload.data["video"], example.folder))
    assert "transcode has 24 frames, the upload 48" in faults
    assert "transcode lasts 1.000 s, the upload 2.000 s" in faults


def test_the_manifest_is_valid_and_names_functions_that_are_there(example: Example) -> None:
    manifest = yaml.safe_load((EXAMPLE / "pipeline.yaml").read_text())
    assert validate(manifest) == []
    pipeline = load_pipeline(manifest)
    functions = [branch.handler.python.function for branch in pipeline.spec.branches]
    functions.append(manifest["metadata"]["annotations"]["headgate.dev/sample-events"])
    for module, name in (function.split(":") for function in functions):
        assert callable(getattr(importlib.import_module(module), name))
    assert set(pipeline.branch_names) == set(example.check.BRANCHES) == set(pipeline.spec.join.branches)
    assert (example.videos.LONGEST_THUMBNAIL_SIDE, example.videos.LONGEST_TRANSCODE_SIDE) == (
        example.check.THUMBNAIL_SIDE,
        example.check.TRANSCODE_SIDE,
    )


def test_a_size_keeps_its_shape_and_is_never_enlarged(example: Example) -> None:
    assert example.media.fit(1920, 1080, 320) == (320, 180)
    assert example.media.fit(360, 640, 320) == (180, 320)
    assert example.media.fit(100, 50, 320) == (100, 50)


def test_the_chart_has_a_column_a_second_and_marks_where_lanes_waited(example: Example) -> None:
    chart = example.chart
    samples = [chart.Sample(0.1, 0, 0, False), chart.Sample(1.1, 8, 1, True), chart.Sample(3.1, 4, 3, False)]
    series = [chart.Series("transcode", samples)]
    assert chart.as_text(series).splitlines() == [
        "seconds               0",
        "transcode   backlog    ██▄  at most 8 events",
        "            workers   0113  at most 3",
        "            low waits  ^^",
    ]
    svg = chart.as_svg(series, "What <scaled>")
    assert svg.startswith("<svg")
    assert "What &lt;scaled&gt;" in svg

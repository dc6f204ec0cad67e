"""video-upload: one publish reaches five branches once, and none of them waits for a slow or a failing one."""

from __future__ import annotations

import asyncio
import contextlib
import runpy
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headgate import Connection, NewEvent
    from headgate.streams import PipelineMeasurement
    from proofs.stage import Stage

PIPELINE = "video-upload"
SLOW, FAILING, QUICK = "cdn", "notify", ("thumbnail", "recommend", "analytics")
EDGES = ("frankfurt", "singapore", "virginia")
UPLOADS, MOST_ROUNDS = 120, 8
# Where workers die every second the pilot gives the slow branch few: a smaller load is as much work, in more rounds.
CHAOTIC_UPLOADS, CHAOTIC_ROUNDS = 30, 3
_SAMPLE_SECONDS = 0.1


async def prove(stage: Stage) -> dict[str, int | float | str]:
    """Applies the example, publishes, waits, compares with what was sent; gives the figures of its line.

    Raises AssertionError.
    """
    make = runpy.run_path(str(stage.folder / "load.py"))["uploads"]
    size, rounds = (CHAOTIC_UPLOADS, CHAOTIC_ROUNDS) if stage.is_chaotic else (UPLOADS, 1)
    seeds = stage.dice.sample(range(10**6), MOST_ROUNDS)
    uploads: list[NewEvent] = []
    meanwhile = None
    await stage.apply()
    async with stage.connect(PIPELINE) as pipeline, _most_workers(stage) as most:
        for number, seed in enumerate(seeds, 1):
            uploads += make(size, seed)
            await _publish(stage, seed, size, new=size)
            meanwhile = await _meanwhile(stage, pipeline, len(uploads)) or meanwhile
            if meanwhile is not None and number >= rounds:
                break
        assert meanwhile is not None, f"{QUICK} were never done while {SLOW} and {FAILING} were not"
        await _publish(stage, seeds[0], size, new=0)
        await stage.settled(300)
        await _check_once(pipeline, uploads, is_chaotic=stage.is_chaotic)
        _check_scale(most, stage)
        if not stage.is_chaotic:
            least = {f"{PIPELINE}/{name}": low for name, (low, _) in _scales(stage).items() if low}
            await stage.until(f"workers are back to {least}", lambda: _are(stage, least))
        return {
            "uploads": len(uploads),
            "notifications": sum(len(upload.data["subscribers"]) for upload in uploads),
            "retries": (await pipeline.measure()).branches[FAILING].retried,
            "cdn backlog when others were done": meanwhile.branches[SLOW].backlog or 0,
            "refused then": meanwhile.branches[FAILING].delayed,
            "most cdn workers": most[SLOW],
        }


async def _publish(stage: Stage, seed: int, size: int, new: int) -> None:
    await stage.publish("--uploads", str(size), "--seed", str(seed), new=new, again=size - new)


async def _meanwhile(stage: Stage, pipeline: Connection, count: int) -> PipelineMeasurement | None:
    """The figures when the quick branches are done with everything, and neither of the others is.

    None when one of the others is done before that is seen: on a machine that is too busy, or after a death, more must
    be published for them to be at work long enough.
    """

    async def decided() -> PipelineMeasurement | None:
        found = await pipeline.measure()
        slow, failing = found.branches[SLOW], found.branches[FAILING]
        are_done = all(found.branches[name].done == count for name in QUICK)
        if count in (slow.done, failing.done) or (are_done and slow.backlog and failing.delayed):
            return found
        return None

    waited_for = f"{QUICK} are done while {SLOW} has a backlog and {FAILING} waits for its next attempts"
    found = await stage.until(waited_for, decided)
    return None if count in (found.branches[SLOW].done, found.branches[FAILING].done) else found


async def _check_once(pipeline: Connection, uploads: list[NewEvent], *, is_chaotic: bool) -> None:
    """Every branch had every upload, and what it left is what that many uploads leave, no more and no less."""
    _check_same("counters", await pipeline.counts(), _counts(uploads))
    _check_same("values", await pipeline.values(), _values(uploads))
    records = await pipeline.records()
    found_records = {record.id: (record.complete, record.results) for record in records}
    _check_same("records", found_records, {upload.id: (True, _results(upload)) for upload in uploads})
    assert len(records) == len(uploads), f"{len(records)} records of {len(uploads)} uploads"
    found = await pipeline.measure()
    for name, branch in found.branches.items():
        # Deaths of workers take attempts of the mail provider's refusals, and are nobody's retries.
        refused = sum(upload.data["mail_refusals"] for upload in uploads) if name == FAILING else 0
        retried = branch.retried if is_chaotic else refused
        assert (branch.done, branch.dead, branch.retried) == (len(uploads), 0, retried), f"{name}: {branch}"


def _check_scale(most: Counter[str], stage: Stage) -> None:
    """The slow branch alone went to its most workers; nobody ever had more than its manifest allows."""
    for name, (_, high) in _scales(stage).items():
        assert most[name] <= high, f"{name} had {most[name]} workers, its manifest allows {high}"
    # Of what is killed every second the pilot asks for no more until one stays up.
    enough = 1 if stage.is_chaotic else _scales(stage)[SLOW][1]
    assert most[SLOW] >= enough, f"{SLOW} never had {enough} workers: {most}"


def _counts(uploads: list[NewEvent]) -> Counter[str]:
    """Every counter, from what was sent."""
    sums: Counter[str] = Counter()
    for upload in uploads:
        sent = upload.data
        sums[f"uploads:{sent['at'][:16]}:{sent['country']}"] += 1
        sums.update(f"topic:{upload.key}:{topic}" for topic in _topics(upload))
        sums.update(f"unread:{name}" for name in sent["subscribers"])
        sums.update({f"megabytes:{edge}": sent["megabytes"] for edge in EDGES})
    return sums


def _values(uploads: list[NewEvent]) -> dict[str, Any]:
    """Every value: a thumbnail a video, and of each channel the video that was published last."""
    newest = {f"newest:{each.key}": {"video": each.id, "topics": _topics(each)} for each in uploads}
    return newest | {f"thumbnail:{each.id}": _sharpest(each) for each in uploads}


def _results(upload: NewEvent) -> dict[str, Any]:
    """What each branch has to say of an upload in its record."""
    return {
        "thumbnail": _sharpest(upload),
        "notify": len(upload.data["subscribers"]),
        "recommend": _topics(upload),
        "analytics": None,
        "cdn": {edge: f"https://{edge}.cdn.example/{upload.id}" for edge in EDGES},
    }


def _topics(upload: NewEvent) -> list[str]:
    _, _, topics = upload.data["title"].partition("How to ")
    return sorted(topics.split(" and "))


def _sharpest(upload: NewEvent) -> int:
    return max((still["sharpness"], still["second"]) for still in upload.data["stills"])[1]


def _check_same(what: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    differing = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    told = [f"{name}: {found.get(name)!r} instead of {expected.get(name)!r}" for name in differing[:5]]
    assert not differing, f"{len(differing)} {what} are wrong: {'; '.join(told)}"


def _scales(stage: Stage) -> dict[str, tuple[int, int]]:
    """Least and most workers of each branch, as the manifest has them."""
    manifest = yaml.safe_load((stage.folder / "pipeline.yaml").read_text(encoding="utf-8"))
    return {
        branch["name"]: (branch["scale"]["min"], branch["scale"]["max"])
        for branch in manifest["spec"]["branches"]
    }


async def _are(stage: Stage, wanted: dict[str, int]) -> bool:
    return await stage.workers() == wanted


@contextlib.asynccontextmanager
async def _most_workers(stage: Stage) -> AsyncIterator[Counter[str]]:
    """The most workers seen of each branch so far, looked at again and again until the block ends."""
    most: Counter[str] = Counter()

    async def look() -> None:
        while True:
            for place, number in (await stage.workers()).items():
                branch = place.partition("/")[2]
                most[branch] = max(most[branch], number)
            await asyncio.sleep(_SAMPLE_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield most
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

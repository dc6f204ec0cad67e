"""Row 3: jobs split into chunks that workers count side by side; each total is exact, or says which bytes it lacks.

What is expected is counted here from the texts that were sent, letter by letter, by nothing that the handlers use.
"""

from __future__ import annotations

import asyncio
import contextlib
import runpy
import time
from base64 import b64decode
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate import NewEvent
    from headgate.join import Record
    from proofs.stage import Stage

BROKEN = 2
CHUNKS = 16
NO_TEXT = 0xFF  # a byte that no text of UTF-8 has


async def prove(stage: Stage) -> dict[str, int | float | str]:
    """Applies the example, publishes, waits, compares with what was sent; gives the figures of its line.

    Raises AssertionError.
    """
    asked = {
        "seed": stage.dice.randrange(10**6),
        "words": 3000,
        "chunks": CHUNKS,
        "seconds": 0.05 if stage.is_chaotic else 0.1,
        "broken": BROKEN,
    }
    count = 24 if stage.is_chaotic else 8
    sent = {job.id: job for job in runpy.run_path(str(stage.folder / "load.py"))["jobs"](count, **asked)}
    await stage.apply()
    assert not [each for each in await stage.workers() if each.startswith("word-count/")], "no work yet"
    began = time.monotonic()
    async with _watching(stage) as most:
        said = await stage.load(f"--jobs={count}", *(f"--{name}={value}" for name, value in asked.items()))
        assert sorted(said["jobs"]) == sorted(sent)
        await stage.settled(300)
    seconds = time.monotonic() - began
    async with stage.connect("word-count") as pipeline:
        records = await pipeline.records()
        letters = await pipeline.dead_letters("map")
    async with stage.connect("word-totals") as pipeline:
        totals = await pipeline.values()
    assert sorted(record.id for record in records) == sorted(sent), "one record a job"
    assert totals.keys() == sent.keys(), "one total a job, and nothing else"
    last, first = max(each.published_ms for each in records), min(each.joined_ms for each in records)
    assert last < first, "no job was done before all were under way"
    lost = [_missing_of(record, sent[record.id], totals[record.id]) for record in records]
    assert sorted(letter.id for letter in letters) == sorted(chunk for each in lost for chunk in each)
    assert sum(map(bool, lost)) == BROKEN
    # While workers do not stay up, the pilot asks for one at a time.
    assert most["word-count/map"] >= (1 if stage.is_chaotic else 2), f"side by side: {most}"
    return {
        "jobs": len(sent),
        "chunks": sum(len(record.parts["map"]) for record in records),
        "words": sum(sum(total["words"].values()) for total in totals.values()),
        "chunks lost": len(letters),
        "partial": sum(total["partial"] for total in totals.values()),
        "workers at most": most["word-count/map"],
        "counted in": round(seconds, 1),
    }


def _missing_of(record: Record, job: NewEvent, total: dict[str, Any]) -> list[str]:
    """The chunks that a job's total says it lacks; raises AssertionError unless all it says is so."""
    text, cuts = b64decode(job.data["text"]), record.results["cut"]
    spans = {f"{job.id}/{number}": [*span] for number, span in enumerate(pairwise(cuts), 1)}
    assert (cuts[0], cuts[-1], len(spans)) == (0, len(text), CHUNKS), f"{job.id}: cut at {cuts}"
    for start, end in spans.values():
        assert end == len(text) or text[end - 1 : end].isspace(), f"{job.id}: a word is cut at {end}"
        assert end - start < 2 * len(text) / CHUNKS, f"{job.id}: {start} to {end} is no even share"
    bad = {chunk: span for chunk, span in spans.items() if NO_TEXT in text[slice(*span)]}
    assert total["missing"] == bad, f"{job.id}: {total['missing']} are said to be missing, {bad} are"
    assert (total["partial"], record.complete) == (bool(bad), not bad), f"{job.id}: marked as what it is"
    assert record.failed == total["failed"]
    assert {*total["failed"]} == {f"map/{chunk}" for chunk in bad}
    assert all("no UTF-8" in error for error in total["failed"].values()), total["failed"]
    assert [*record.parts["map"]] == [chunk for chunk in spans if chunk not in bad]
    kept = b"".join(text[slice(*span)] for chunk, span in spans.items() if chunk not in bad)
    expected = _counted(kept.decode())
    assert total["words"] == expected, f"{job.id}: {_difference(total['words'], expected)}"
    return [*bad]


def _counted(text: str) -> Counter[str]:
    """The words of a text, by walking it letter by letter; an apostrophe between two letters is one of the word's."""
    words, word = Counter[str](), ""
    for letter, following in pairwise(text + "  "):
        if letter.isalpha() or (word and letter in "'\u2019" and following.isalpha()):
            word += letter
        elif word:
            words[word.lower()] += 1
            word = ""
    return words


def _difference(found: dict[str, int], expected: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Words whose counts differ: what was found, and what should be."""
    both = {word: (found.get(word, 0), expected.get(word, 0)) for word in {*found, *expected}}
    return {word: (is_so, should) for word, (is_so, should) in both.items() if is_so != should}


@contextlib.asynccontextmanager
async def _watching(stage: Stage) -> AsyncIterator[Counter[str]]:
    """The most workers that each branch has had at a time so far."""
    most: Counter[str] = Counter()

    async def watch() -> None:
        while True:
            for where, number in (await stage.workers()).items():
                most[where] = max(most[where], number)
            await asyncio.sleep(0.2)

    watcher = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher

"""The handlers of the word count: `cut` splits a job into chunks, `tally` counts a chunk, `merge` adds the counts up.

A job's data is `{"text": <bytes in Base64>, "chunks": 8}`: bytes, because a file from elsewhere may hold some that are
no text. `"seconds": 0.1` makes each chunk take that long, as a heavier computation than counting would.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from headgate import NewEvent, PermanentError, put, result, split

if TYPE_CHECKING:
    from headgate import Effect, Event, Result

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
SPACE_OR_END = re.compile(rb"\s+|\Z")  # never inside a character of UTF-8
CHUNKS = 8


def cut(event: Event) -> Result:
    """Splits a job into chunks of whole words, all about as long; the result is where it cut, in bytes."""
    text, chunks = b64decode(event.data["text"]), event.data.get("chunks", CHUNKS)
    even = (len(text) * number // chunks for number in range(1, chunks))
    cuts = sorted({0, len(text), *(match.end() for at in even if (match := SPACE_OR_END.search(text, at)))})
    return result(
        cuts,
        split(
            NewEvent(
                id=f"{event.id}/{number}",
                type="chunk",
                data=event.data | {"text": b64encode(text[start:end]).decode()},
            )
            for number, (start, end) in enumerate(pairwise(cuts), 1)
        ),
    )


def tally(event: Event) -> dict[str, int]:
    """How often each word occurs in a chunk, in lower case."""
    time.sleep(event.data.get("seconds", 0))
    try:
        text = b64decode(event.data["text"]).decode()
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"data.text: byte {error.start} of chunk {event.id} is no UTF-8 ({error.reason}); publish the job as UTF-8"
        ) from error
    return Counter(word.lower() for word in WORD.findall(text))


def merge(event: Event) -> Effect:
    """A job's total under its id, the most frequent word first; `missing` are the bytes that are not in it."""
    record = event.data
    job, counts, failed = record["id"], record["parts"].get("map", {}), record["failed"]
    words: Counter[str] = Counter()
    for each in counts.values():
        words.update(each)
    chunks = {f"{job}/{n}": span for n, span in enumerate(pairwise(record["results"].get("cut", ())), 1)}
    missing = {chunk: span for chunk, span in chunks.items() if chunk not in counts}
    total = {"partial": not record["complete"], "missing": missing, "failed": failed}
    return put(job, total | {"words": dict(words.most_common())})

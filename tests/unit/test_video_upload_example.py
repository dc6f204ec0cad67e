"""The video upload's handlers and pipeline, tested as their user would: without a server to set up, without waiting."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headgate.testing import handle, pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLE = Path(__file__).parents[2] / "examples" / "video-upload"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLE)
    yield importlib.import_module("uploads")
    del sys.modules["uploads"]


async def test_the_thumbnail_is_the_sharpest_still(uploads: ModuleType) -> None:
    stills = [
        {"second": 1, "sharpness": 0.2},
        {"second": 9, "sharpness": 0.7},
        {"second": 5, "sharpness": 0.6},
    ]
    done = await handle(uploads.thumbnail, {"stills": stills}, id="v1")
    assert (done.value, done.puts) == (9, {"thumbnail:v1": 9})


async def test_subscribers_are_told_once_the_mail_provider_takes_the_mail(uploads: ModuleType) -> None:
    video = {"subscribers": ["ada", "grace"], "mail_refusals": 1}
    with pytest.raises(uploads.MailRefusedError, match="451"):
        await handle(uploads.notify, video, attempt=1)
    done = await handle(uploads.notify, video, attempt=2)
    assert (done.value, done.counts) == (2, {"unread:ada": 1, "unread:grace": 1})


async def test_an_upload_is_counted_by_minute_and_country(uploads: ModuleType) -> None:
    done = await handle(uploads.analytics, {"at": "2026-11-21T09:14:59+00:00", "country": "DE"})
    assert done.counts == {"uploads:2026-11-21T09:14:DE": 1}


async def test_a_mail_that_is_refused_twice_is_sent_six_seconds_later_and_delays_no_other_branch() -> None:
    video = {
        "title": "How to redis", "at": "2026-11-21T09:14:59+00:00", "country": "DE", "megabytes": 1,
        "stills": [{"second": 1, "sharpness": 0.2}], "subscribers": ["ada"], "mail_refusals": 2,
    }  # fmt: skip
    async with pipeline(EXAMPLE / "pipeline.yaml") as site:
        await site.publish(video, id="v1", key="c1")
        await site.advance(0)
        assert {name: each.done for name, each in (await site.measure()).branches.items()} == {
            "thumbnail": 1, "notify": 0, "recommend": 1, "analytics": 1, "cdn": 1,
        }  # fmt: skip
        await site.settled()
        (record,) = await site.records()
        assert (record.complete, record.results["notify"], site.seconds) == (True, 1, 6)
        assert (await site.counts())["unread:ada"] == 1

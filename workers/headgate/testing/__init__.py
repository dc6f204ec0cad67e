"""Handlers and pipelines in tests, without a server to set up and without waiting.

    done = await handle(transcode, {"video": "a.mp4"}, type="video.uploaded")
    assert done.value == "a.webm"

    async with pipeline("pipeline.yaml", handlers={"charge": fake_charge}) as orders:
        await orders.publish({"total": 5}, id="o1")
        await orders.settled()
        (record,) = await orders.records()

A pipeline runs on a real server with real workers, in the test's own event loop; only time is virtual: what back-offs
and joins wait for is skipped. Nothing else of Headgate may import this package, which needs the extra `local`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.testing.attempts import Attempt
from headgate.testing.errors import NotSettledError, WorkerBrokenError
from headgate.testing.handling import Handled, handle, handle_batch

if TYPE_CHECKING:
    from headgate.testing.pipelines import ManifestError, RunningPipeline, pipeline

__all__ = [
    "Attempt",
    "Handled",
    "ManifestError",
    "NotSettledError",
    "RunningPipeline",
    "WorkerBrokenError",
    "handle",
    "handle_batch",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    """What needs the extra is loaded when it is asked for: handlers alone are tested without it."""
    if name not in {"ManifestError", "RunningPipeline", "pipeline"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from headgate.testing import pipelines  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"headgate.testing.{name} needs {error.name}, which is not installed: pip install 'headgate[local]'",
            name=error.name,
        ) from error
    return getattr(pipelines, name)

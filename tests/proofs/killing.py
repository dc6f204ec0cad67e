"""Workers of an example killed every second, at random, for as long as its proof lasts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proofs.stage import Stage

EVERY_SECONDS = 1.0


@contextlib.asynccontextmanager
async def killing(stage: Stage) -> AsyncIterator[None]:
    """Kills from the moment the example is applied; raises what a kill raises."""
    task = asyncio.create_task(_kill(stage))
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _kill(stage: Stage) -> None:
    await stage.applied.wait()
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        await stage.kill()

"""`make examples` and `make examples-cluster`: the proofs of all examples, a line each with its figures.

The last line is one JSON object. Exits 1 when a proof fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import random
import secrets
import time
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from cluster.installation import installed
from commands import run_command
from proofs.killing import killing
from proofs.local import on_this_machine
from proofs.on_cluster import on_a_cluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from proofs.stage import Stage

EXAMPLES = ("video-upload", "log-dashboard", "word-count", "order-processing", "payment-events")


async def prove(
    example: str, opened: AbstractAsyncContextManager[Stage], *, is_chaotic: bool
) -> dict[str, Any]:
    """Proves one example; gives its figures, seconds and kills among them. Raises AssertionError."""
    proof = importlib.import_module(f"proofs.{example.replace('-', '_')}")
    started = time.monotonic()
    async with opened as stage:
        async with killing(stage) if is_chaotic else nullcontext():
            figures: dict[str, Any] = await proof.prove(stage)
        if is_chaotic:
            assert stage.kills, f"{example}: no worker was killed; the proof is over too soon"
        return figures | {"killed": stage.kills, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    """Runs what the command line asks for."""
    asked = _arguments()
    print(f"examples: seed {asked.seed}", flush=True)
    with contextlib.ExitStack() as entered:
        cluster = None
        if asked.cluster:
            cluster, _ = entered.enter_context(installed("proofs", lambda text: print(text, flush=True)))

        def stage(example: str) -> AbstractAsyncContextManager[Stage]:
            dice = random.Random(f"{asked.seed}/{example}")
            if cluster is not None:
                return on_a_cluster(example, cluster, dice, is_chaotic=asked.chaos)
            return on_this_machine(example, dice, is_chaotic=asked.chaos)

        found = {example: _proved(example, stage, is_chaotic=asked.chaos) for example in asked.examples}
    failed = [example for example, figures in found.items() if figures is None]
    print(json.dumps({"seed": asked.seed, "chaos": asked.chaos, "failed": failed, "examples": found}))
    return 1 if failed else 0


def _proved(
    example: str, stage: Callable[[str], AbstractAsyncContextManager[Stage]], *, is_chaotic: bool
) -> dict[str, Any] | None:
    try:
        figures = asyncio.run(prove(example, stage(example), is_chaotic=is_chaotic))
    except Exception:  # noqa: BLE001 - one failure does not keep the others from being tried
        print(f"{example}: FAILED\n{traceback.format_exc()}", flush=True)
        return None
    print(f"{example}: {', '.join(f'{name} {value}' for name, value in figures.items())}", flush=True)
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make examples",
        description="Runs the examples and proves what each is there to show. ARGS='--chaos word-count'",
    )
    parser.add_argument(
        "examples", nargs="*", metavar="EXAMPLE", help=f"of {', '.join(EXAMPLES)}; all without one"
    )
    parser.add_argument("--cluster", action="store_true", help="on a cluster instead of this machine")
    parser.add_argument("--chaos", action="store_true", help="a random worker is killed every second")
    parser.add_argument("--seed", default=str(secrets.randbelow(2**32)), help="of all that is random")
    asked = parser.parse_args()
    asked.examples = asked.examples or list(EXAMPLES)
    if unknown := [example for example in asked.examples if example not in EXAMPLES]:
        parser.error(f"there is no example {unknown[0]!r}; the examples are {', '.join(EXAMPLES)}")
    return asked


if __name__ == "__main__":
    run_command(main)

"""Every example does on this machine what it is there to show: the proofs of `make examples`."""

from __future__ import annotations

import random

import pytest

from proofs.__main__ import EXAMPLES, prove
from proofs.local import on_this_machine


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_proves_what_it_is_there_to_show(example: str) -> None:
    seed = random.randrange(2**32)
    figures = await prove(example, on_this_machine(example, random.Random(seed)), is_chaotic=False)
    print(f"seed {seed}: {figures}")  # noqa: T201
    assert len(figures) > 2

"""examples/order-processing when an answer comes after the decision: nothing changes, and nothing stays behind."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

from headgate import NewEvent
from proofs.local import on_this_machine

if TYPE_CHECKING:
    from pathlib import Path

    from headgate import Connection

LATE = 5  # seconds, when the join waits for two
ALL_IN = {"status": "Completed", "inventory": "reserved", "payment": "authorized", "notification": "sent"}


async def test_what_is_answered_after_the_time_out_is_compensated_and_changes_no_status(
    tmp_path: Path,
) -> None:
    async with on_this_machine("order-processing", random.Random(1)) as stage:
        stage.folder = _hurried(stage.folder, tmp_path / "example")
        await stage.apply()
        async with stage.connect("orders") as shop, stage.connect("order-status") as status:
            await shop.publish(_delivery("cup"), _delivery("mug"))
            await shop.publish(_order("bank-late", "cup", payment=LATE), _order("good", "cup"))
            await shop.publish(_order("shelf-late", "mug", inventory=LATE))

            async def decided() -> bool:
                return len(await status.values()) == 3

            async def given_back() -> bool:
                return (await shop.values()).get("cup") == {"left": 7, "held": {}}

            await stage.until("all are decided", decided)
            await stage.until("what the late payment's order held is given back", given_back)
            early = await status.values()
            await stage.settled()
            assert (
                early
                == await status.values()
                == {
                    "order-bank-late": ALL_IN | {"status": "Failed", "payment": "no answer"},
                    "order-good": ALL_IN,
                    "order-shelf-late": ALL_IN | {"status": "Failed", "inventory": "no answer"},
                }
            )
            assert await shop.values() == {"cup": {"left": 7, "held": {}}, "mug": {"left": 10, "held": {}}}
            assert await shop.counts() == {"takings": 500}
            assert await _late(shop) == 2


def _delivery(sku: str) -> NewEvent:
    return NewEvent(id=f"delivery-{sku}", type="stock.received", key=sku, data={"quantity": 10})


def _order(name: str, sku: str, **seconds: float) -> NewEvent:
    """An order of three, for 500 cents, of which some services answer after so many seconds."""
    data = {"quantity": 3, "cents": 500, "card": "good", "seconds": seconds}
    return NewEvent(id=f"order-{name}", type="order.placed", key=sku, data=data)


async def _late(shop: Connection) -> int:
    return (await shop.measure()).late


def _hurried(example: Path, to: Path) -> Path:
    """The example, but its join waits for two seconds."""
    shutil.copytree(example, to, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = to / "pipeline.yaml"
    text = manifest.read_text()
    assert text.count("timeoutSeconds: 120") == 1
    manifest.write_text(text.replace("timeoutSeconds: 120", "timeoutSeconds: 2"))
    return to

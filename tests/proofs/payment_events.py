"""payment-events: each subscriber of a payment has a queue, retries and dead letters of its own; a payment ships once.

One subscriber is down at first, a worker dies with a payment in its hands, every payment is reported twice, and the
service in the other language is killed while it works. What is expected is computed from the payments alone.
"""

from __future__ import annotations

import asyncio
import json
import runpy
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import yaml
from standardwebhooks import Webhook

from proofs.services import service

if TYPE_CHECKING:
    from headgate import Connection, NewEvent
    from proofs.services import Service
    from proofs.stage import Stage

PAYMENTS, CHAOTIC_PAYMENTS, CHAOTIC_CARRIER_SECONDS = 200, 400, 0.05
# Payments whose carrier takes so long: twice what two workers handle at once, one of which is killed meanwhile.
# Under chaos less: an attempt must have a chance to end before somebody kills its worker.
SLOW, SLOW_SECONDS, SLOW_SECONDS_ON_A_CLUSTER = 64, 3, 8
CHAOTIC_SLOW_SECONDS, CHAOTIC_SLOW_SECONDS_ON_A_CLUSTER = 0.5, 1.5
KETTLES = 1000
PATIENCE_SECONDS = 300
MOST_DEATHS = 9  # with a tenth it would be a dead letter


async def prove(stage: Stage) -> dict[str, int | float | str]:
    """Applies the example, publishes, waits, compares with what was sent; gives the figures of its line.

    Raises AssertionError.
    """
    load = runpy.run_path(str(stage.folder / "load.py"))
    seed = stage.dice.randrange(10**6)
    count, seconds = (CHAOTIC_PAYMENTS, CHAOTIC_CARRIER_SECONDS) if stage.is_chaotic else (PAYMENTS, 0)
    asked = ("--payments", str(count), "--seed", str(seed), "--carrier-seconds", str(seconds))
    paid: list[NewEvent] = load["payments"](count, seed, seconds)
    if stage.is_chaotic:
        slow_seconds = CHAOTIC_SLOW_SECONDS if stage.is_local else CHAOTIC_SLOW_SECONDS_ON_A_CLUSTER
    else:
        slow_seconds = SLOW_SECONDS if stage.is_local else SLOW_SECONDS_ON_A_CLUSTER
    slow = [each for each in load["payments"](3 * SLOW, seed + 1, slow_seconds) if _is_plain(each)][:SLOW]
    corrected: list[NewEvent] = load["corrected"](paid)
    everything = [*slow, *paid]

    built = await asyncio.create_subprocess_exec(str(stage.folder / "prepare"))
    assert await built.wait() == 0, "the service's program is built"
    command = [str(stage.folder / "build/inventory"), "{address}", "{folder}/journal"]
    async with service(stage, "inventory", command, {"SIGNING_KEYS": _key(stage)}, 8080) as inventory:
        await stage.apply()
        await inventory.start()
        full = await _stock(inventory)
        await inventory.stop()
        async with stage.connect("payments") as payments, stage.connect("outcomes") as outcomes:
            await payments.publish(slow)
            await _kill_a_worker_that_has_some(stage, payments)
            await stage.publish(*asked, new=count)
            receipts = await payments.publish(stage.dice.sample(everything, len(everything)))
            assert all(receipt.duplicate for receipt in receipts), "what is reported again adds nothing"
            shipped = await stage.until(
                "shipping has sent all it can while inventory is down",
                lambda: _went_on(payments, paid),
                PATIENCE_SECONDS,
            )

            await inventory.start()
            await stage.until("inventory takes from stock", lambda: _has_begun(inventory, full))
            await inventory.kill()
            await stage.settled(PATIENCE_SECONDS)
            again = await _check_before_mending(stage, payments, everything)
            assert again, "what a worker held that was killed came again"
            assert stage.is_chaotic or again <= {each.id for each in slow}, "and nothing else did"
            assert await _stock(inventory) == _less(
                full, [each for each in everything if not _is_sold_out(each)]
            )
            await _check_that_a_push_counts_once(stage, inventory, slow[0])

            _, delivered = await inventory.ask("PUT", "/stock/kettle", str(KETTLES))
            assert delivered["kettle"] == KETTLES
            given = await payments.redrive("inventory", error="sold out")
            assert given == sum(map(_is_sold_out, everything))
            await stage.publish(*asked, "--corrected", new=len(corrected))
            await stage.settled(PATIENCE_SECONDS)

            assert await _stock(inventory) == _less(full | {"kettle": KETTLES}, everything)
            assert await payments.dead_letters("inventory") == []
            await _check_parcels(payments, [each for each in everything if _has_address(each)] + corrected)
            assert await outcomes.counts() == _outcomes(everything, corrected)
            found = await payments.measure()
            assert found.late == given, (
                f"{found.late} outcomes came after their record, {given} were redriven"
            )
            return {
                "payments": len(everything),
                "reported again": len(receipts),
                "shipped while inventory was down": shipped,
                "retries shipping": found.branches["shipping"].retried,
                "retries inventory": found.branches["inventory"].retried,
                "dead letters shipping": found.branches["shipping"].dead_letters,
                "redriven to inventory": given,
                "pieces sold": sum(_sold(everything).values()),
            }


async def _kill_a_worker_that_has_some(stage: Stage, payments: Connection) -> None:
    """SIGKILL to a worker of shipping while payments there wait for their carrier."""

    async def held() -> bool:
        holding = (await payments.measure()).branches["shipping"].holding
        if stage.is_chaotic:  # they come and go
            return bool(holding) and all(holding.values())
        return len([n for n in holding.values() if n]) == 2

    await stage.until("workers of shipping hold payments", held)
    await stage.until("one of them is killed", lambda: stage.kill("payments/shipping"))


async def _went_on(payments: Connection, paid: list[NewEvent]) -> int:
    """How many parcels were sent, once shipping is done with all of them; inventory did nothing meanwhile."""
    found = await payments.measure()
    shipping, inventory = found.branches["shipping"], found.branches["inventory"]
    assert (inventory.done, inventory.dead) == (0, 0), f"inventory is down, and yet: {inventory}"
    values, wanted = await payments.values(), [_parcel_key(each) for each in paid if _has_address(each)]
    if shipping.dead < len(paid) - len(wanted) or any(key not in values for key in wanted):
        return 0
    assert inventory.backlog == len(paid) + SLOW, f"all of inventory's payments wait for it: {inventory}"
    return len(values)


async def _check_before_mending(stage: Stage, payments: Connection, everything: list[NewEvent]) -> set[str]:
    """Each subscriber has its own dead letters, and the record of a payment says who could not do its part.

    Gives the payments that came to shipping once more than the carrier asked for.
    """
    letters = {name: await payments.dead_letters(name) for name in ("shipping", "inventory")}
    wrong = {
        "shipping": {each.id for each in everything if not _has_address(each)},
        "inventory": {each.id for each in everything if _is_sold_out(each)},
    }
    assert {name: {each.id for each in found} for name, found in letters.items()} == wrong
    assert all("postcode" in each.error for each in letters["shipping"])
    assert all("answered 422" in each.error for each in letters["inventory"])
    records = {record.id: record for record in await payments.records()}
    assert len(records) == len(await payments.records()) == len(everything)
    again = set()
    for event in everything:
        record = records[event.id]
        failed = {name for name, ids in wrong.items() if event.id in ids}
        assert (set(record.failed), record.missing, record.complete) == (failed, (), not failed), record
        if "inventory" not in failed:
            taken = {article: -pieces for article, pieces in event.data["items"].items()}
            assert record.results["inventory"]["pieces"] == taken, record
            assert record.results["inventory"]["attempt"] > event.data["warehouse"]["busy"], record
        if "shipping" not in failed:
            deaths = record.results["shipping"]["attempt"] - event.data["carrier"]["fails"] - 1
            most = MOST_DEATHS if stage.is_chaotic else 1
            assert 0 <= deaths <= most, f"each attempt is a failure of shipping's own, or a death: {record}"
            again |= {event.id} if deaths else set()
    return again


async def _check_that_a_push_counts_once(stage: Stage, inventory: Service, event: NewEvent) -> None:
    """The service answers a push that comes again as it did before; who has no key gets nothing."""
    before, body = await _stock(inventory), json.dumps(event.data)
    push, now = f"{stage.namespace}/payments/inventory/0/{event.id}", datetime.now(UTC)
    headers = {"webhook-id": push, "webhook-timestamp": str(int(now.timestamp())), "headgate-attempt": "9"}
    signature = Webhook(_key(stage)).sign(push, now, body)
    status, answer = await inventory.ask(
        "POST", "/payments", body, headers | {"webhook-signature": signature}
    )
    taken = {article: -pieces for article, pieces in event.data["items"].items()}
    assert (status, answer["push"], answer["pieces"]) == (200, push, taken)
    assert answer["attempt"] < 9, "the answer is that of the attempt that took the pieces"
    forged = Webhook("whsec_" + "A" * 32).sign(push + "1", now, body)
    headers |= {"webhook-id": push + "1", "webhook-signature": forged}
    status, _ = await inventory.ask("POST", "/payments", body, headers)
    assert status == 401
    assert await _stock(inventory) == before


async def _check_parcels(payments: Connection, shipped: list[NewEvent]) -> None:
    """One parcel a payment, with what was paid for, to where it was to go."""
    values = await payments.values()
    found = {key: (parcel["to"], parcel["items"]) for key, parcel in values.items()}
    assert found == {_parcel_key(each): (each.data["address"], each.data["items"]) for each in shipped}
    assert await payments.counts() == {"parcels": len(shipped)}, "each payment ships once"


def _outcomes(everything: list[NewEvent], corrected: list[NewEvent]) -> dict[str, int]:
    """What the collector counts: a payment is fulfilled when nobody failed, a corrected one when it is shipped."""
    counts = Counter(
        {
            "fulfilled": len(corrected),
            "not by inventory": sum(map(_is_sold_out, everything)),
            "not by shipping": len([each for each in everything if not _has_address(each)]),
        }
    )
    counts["fulfilled"] += sum(_has_address(each) and not _is_sold_out(each) for each in everything)
    return dict(counts)


async def _has_begun(inventory: Service, full: dict[str, int]) -> bool:
    return await _stock(inventory) != full


async def _stock(inventory: Service) -> dict[str, int]:
    status, stock = await inventory.ask("GET", "/stock")
    assert status == 200
    return dict(stock)


def _less(stock: dict[str, int], events: list[NewEvent]) -> dict[str, int]:
    sold = _sold(events)
    return {article: pieces - sold[article] for article, pieces in stock.items()}


def _sold(events: list[NewEvent]) -> Counter[str]:
    sold: Counter[str] = Counter()
    for event in events:
        sold.update(event.data["items"])
    return sold


def _is_plain(event: NewEvent) -> bool:
    """Whether nothing goes wrong with it."""
    faults = event.data["carrier"]["fails"], event.data["warehouse"]["busy"]
    return _has_address(event) and not _is_sold_out(event) and not any(faults)


def _is_sold_out(event: NewEvent) -> bool:
    return "kettle" in event.data["items"]


def _has_address(event: NewEvent) -> bool:
    return bool(event.data["address"]["postcode"])


def _parcel_key(event: NewEvent) -> str:
    return f"parcel/{event.data['payment']}"


def _key(stage: Stage) -> str:
    """The key in the example's own Secret."""
    documents = yaml.safe_load_all((stage.folder / "pipeline.yaml").read_text(encoding="utf-8"))
    (secret,) = [each for each in documents if each["kind"] == "Secret"]
    return str(secret["stringData"]["keys"])

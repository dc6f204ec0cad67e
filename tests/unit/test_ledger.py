"""The ledger finds what is lost, doubled, misordered or joined wrongly: each fault is planted, and told by name."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest

from chaos.ledger.handlers import answer
from chaos.ledger.plan import BRANCHES, Plan, strikes
from chaos.ledger.verify import Ledger, record_of, verify

PLAN = Plan("unit", 1500)
TICK, CLAIM = 0.5, 1.0


@functools.cache
def faultless() -> Ledger:
    """What a run of the plan leaves when every promise is kept."""
    handled = list(PLAN.handled())
    hopeless = [event.id for event in handled if event.is_hopeless]
    keyed = [event for event in PLAN.published if event.key is not None]
    batched = sum(not event.is_skipped for event in handled)
    counts = {"all": len(handled), "batched": batched} | {f"event:{event.id}": 1 for event in handled}
    values: dict[str, int] = {}
    order: dict[str, list[int]] = {}
    for event in keyed:
        counts[f"key:{event.key}"] = counts.get(f"key:{event.key}", 0) + 1
        values |= {f"sequence:{event.key}": event.sequence, f"last:{event.key}": event.sequence}
        order.setdefault(str(event.key), []).append(event.sequence)
    return Ledger(
        records=[record_of(root) for root in PLAN.roots()],
        dead={"plain": hopeless},
        done=dict.fromkeys(BRANCHES, len(handled))
        | {"plain": len(handled) - len(hopeless), "batching": batched},
        filtered={"batching": len(handled) - batched},
        counts=counts,
        values=values,
        out=[event.id for event in handled],
        order=order,
    )


def faults(**changed):
    """The verdict on a faultless ledger in which something is changed, as (lost, doubled, misordered, joins wrong)."""
    verdict = verify(PLAN, replace(faultless(), **changed))
    assert verdict.is_clean == (verdict.faults == [])
    return (verdict.lost, verdict.doubled, verdict.misordered, verdict.joins_wrong)


def long_key() -> str:
    return next(key for key, numbers in faultless().order.items() if len(numbers) > 5)


def test_a_faultless_ledger_has_no_faults():
    assert faults() == (0, 0, 0, 0)


def test_the_plan_has_everything_that_may_go_wrong():
    handled = list(PLAN.handled())
    roots = list(PLAN.roots())
    assert any(event.key is None for event in PLAN.published)
    assert any(event.is_hopeless for event in roots)
    assert any(part.is_hopeless for root in roots for part in root.parts)
    assert any(part.parts for root in roots for part in root.parts), "parts of parts"
    assert any(event.is_skipped for event in roots)
    assert any(part.is_skipped for root in roots for part in root.parts)
    assert any(event.echoes for event in roots)
    assert any(root.id.endswith("+echo") for root in roots)
    assert {event.lane for event in handled} == set(next(iter(PLAN.published)).lane.__class__)
    for place in range(len(BRANCHES)):
        assert {event.fails[place] for event in handled} == {0, 1, 2}
    assert len({event.id for event in handled}) == len(handled)


def test_events_of_one_key_share_a_lane_and_are_numbered_in_the_order_they_are_published():
    seen: dict[str, list[tuple[int, str]]] = {}
    for event in PLAN.published:
        if event.key is not None:
            seen.setdefault(event.key, []).append((event.sequence, event.lane))
    for numbers in seen.values():
        assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
        assert len({lane for _, lane in numbers}) == 1


def test_the_same_seed_plans_the_same_run_and_another_one_another():
    again = Plan("unit", 1500)
    assert list(again.handled()) == list(PLAN.handled())
    assert list(Plan("other", 1500).handled()) != list(PLAN.handled())

    def first(seed: str):
        return list(itertools.islice(strikes(seed, 10, TICK, CLAIM), 200))

    assert first("7") == first("7")
    assert first("7") != first("8")


def test_every_tick_kills_one_and_nobody_is_struck_while_paused():
    kinds = set()
    awake_at = [0] * 10
    for tick, blows in enumerate(itertools.islice(strikes("7", 10, TICK, CLAIM), 500)):
        assert [blow.kind for blow in blows].count("kill") == 1
        for blow in blows:
            kinds.add(blow.kind)
            if blow.kind == "cut":
                continue
            assert awake_at[blow.slot] <= tick
            if blow.kind == "pause":
                assert blow.seconds > CLAIM
                awake_at[blow.slot] = tick + int(blow.seconds / TICK) + 1
    assert kinds == {"kill", "pause", "drain", "cut"}


def test_a_lost_count_is_lost_and_a_doubled_one_doubled():
    counts = faultless().counts
    less = {name: number for name, number in counts.items() if name != "event:e7"}
    assert faults(counts=less) == (1, 0, 0, 0)
    assert faults(counts=counts | {"event:e7": 2}) == (0, 1, 0, 0)
    assert faults(counts=counts | {"all": counts["all"] + 3}) == (0, 3, 0, 0)
    assert faults(counts=counts | {"event:e-of-nobody": 1}) == (0, 1, 0, 0)


def test_an_emitted_event_that_is_missing_or_there_twice():
    out = list(faultless().out)
    assert faults(out=out[1:]) == (1, 0, 0, 0)
    assert faults(out=[*out, out[0], out[0]]) == (0, 2, 0, 0)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_that_settled_too_few_or_too_many(branch):
    done = dict(faultless().done)
    assert faults(done=done | {branch: done[branch] - 2}) == (2, 0, 0, 0)
    assert faults(done=done | {branch: done[branch] + 2}) == (0, 2, 0, 0)


def test_dead_letters_that_are_missing_doubled_or_not_planned():
    hopeless = list(faultless().dead["plain"])
    assert faults(dead={"plain": hopeless[1:]}) == (1, 0, 0, 0)
    assert faults(dead={"plain": [*hopeless, hopeless[0]]}) == (0, 1, 0, 0)
    assert faults(dead={"plain": hopeless, "counting": ["e1"]}) == (0, 1, 0, 0)


def test_a_filter_that_leaves_out_too_few_or_too_many():
    filtered = faultless().filtered["batching"]
    assert faults(filtered={"batching": filtered - 1}) == (1, 0, 0, 0)
    assert faults(filtered={"batching": filtered, "plain": 1}) == (0, 1, 0, 0)


def test_what_is_not_settled_or_not_relayed_is_lost():
    assert faults(backlog={"plain": 4}) == (4, 0, 0, 0)
    assert faults(outboxed=3) == (3, 0, 0, 0)


def test_lines_of_a_key_out_of_order_missing_or_twice():
    order, key = dict(faultless().order), long_key()
    numbers = list(order[key])
    swapped = [numbers[1], numbers[0], *numbers[2:]]
    assert faults(order=order | {key: swapped}) == (0, 0, 1, 0)
    assert faults(order=order | {key: numbers[1:]}) == (1, 0, 0, 0)
    assert faults(order=order | {key: [*numbers[:2], numbers[0], *numbers[2:]]}) == (0, 1, 0, 0)


def test_a_last_value_that_is_not_the_last():
    values, key = dict(faultless().values), long_key()
    assert faults(values=values | {f"sequence:{key}": 1}) == (0, 0, 1, 0)
    assert faults(values=values | {f"last:{key}": 10**6}) == (1, 0, 0, 0)
    assert faults(values={name: value for name, value in values.items() if name != f"sequence:{key}"}) == (
        1,
        0,
        0,
        0,
    )


def test_a_join_without_a_record_with_two_or_of_nobody():
    records = list(faultless().records)
    assert faults(records=records[1:]) == (0, 0, 0, 1)
    assert faults(records=[*records, records[0]]) == (0, 0, 0, 1)
    assert faults(records=[*records, replace(records[0], id="e-of-nobody")]) == (0, 0, 0, 1)
    assert faults(open_joins=2) == (0, 0, 0, 2)
    assert faults(late=2) == (0, 0, 0, 2)


def test_a_record_that_says_something_else():
    records = list(faultless().records)
    split = next(place for place, record in enumerate(records) if record.parts)

    def with_record(place, **changed):
        return faults(records=[*records[:place], replace(records[place], **changed), *records[place + 1 :]])

    assert with_record(0, is_complete=not records[0].is_complete) == (0, 0, 0, 1)
    assert with_record(0, results=dict(records[0].results) | {"plain": answer("plain", "e1")}) == (0, 0, 0, 1)
    assert with_record(0, missing=frozenset({"ordered"})) == (0, 0, 0, 1)
    assert with_record(split, parts={}) == (0, 0, 0, 1)


def test_only_the_first_offenders_of_a_kind_are_named():
    verdict = verify(PLAN, replace(faultless(), out=(), records=()))
    assert len(verdict.faults) == 20
    assert verdict.lost == PLAN.total

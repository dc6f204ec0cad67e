"""KeyQueues and quota: laws, and every order of things against a model of the server."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Event
from headgate.streams.outcome import RETRY_STREAM, Delivery
from headgate.worker.key_queues import KeyQueues, Verdict
from headgate.worker.ownership import quota

KEYS = "abcd"


def delivery(key: str | None, number: int, stream: int = 2, lease: str = "w.1") -> Delivery:
    event = Event(id=f"{key}.{number}", body=b"1", key=key)
    return Delivery(event, stream, b"%d-0" % number, lease, 0.0)


def test_the_next_of_a_key_begins_when_the_one_before_is_settled() -> None:
    queues = KeyQueues()
    first, second, third = (delivery("k", n) for n in range(3))
    assert [queues.arrive(each) for each in (first, second, third)] == [
        Verdict.BEGIN,
        Verdict.WAIT,
        Verdict.WAIT,
    ]
    assert queues.settled(first) is second
    assert queues.settled(second) is third
    assert queues.settled(third) is None
    assert queues.arrive(delivery("k", 4)) is Verdict.BEGIN


def test_keys_do_not_wait_for_each_other_and_events_without_a_key_wait_for_nobody() -> None:
    queues = KeyQueues()
    some = [delivery("a", 0), delivery("b", 0), delivery(None, 0), delivery(None, 1)]
    assert [queues.arrive(each) for each in some] == [Verdict.BEGIN] * 4
    assert queues.retried(some[2]) == []
    assert queues.settled(some[3]) is None


def test_an_empty_key_is_none_as_on_the_server() -> None:
    """The server never blocks it, so that it would never say that it is free either."""
    queues = KeyQueues()
    first, second = delivery("", 0), delivery("", 1)
    assert queues.arrive(first) is Verdict.BEGIN
    assert queues.retried(first) == []
    assert queues.settled(first) is None
    assert queues.arrive(second) is Verdict.BEGIN


def test_a_retry_parks_what_is_behind_it_and_what_comes_until_the_server_says_it_is_over() -> None:
    queues = KeyQueues()
    first, second, third = (delivery("k", n) for n in range(3))
    queues.arrive(first)
    queues.arrive(second)
    assert queues.retried(first) == [second]
    assert queues.arrive(third) is Verdict.PARK
    assert queues.arrive(delivery("other", 0)) is Verdict.BEGIN
    assert [queues.settled(each) for each in (first, second, third)] == [None, None, None]
    again = delivery("k", 0, RETRY_STREAM)
    assert queues.arrive(again) is Verdict.BEGIN
    queues.unblocked(["k"])
    assert queues.settled(again) is None
    assert queues.arrive(delivery("k", 3)) is Verdict.BEGIN


def test_what_was_parked_after_the_key_was_freed_blocks_it_again() -> None:
    queues = KeyQueues()
    queues.reset(["k"])
    again, late = delivery("k", 0, RETRY_STREAM), delivery("k", 1)
    queues.arrive(again)
    assert queues.arrive(late) is Verdict.PARK
    # The settle of `again` frees the key on the server; that of `late`, which comes next, blocks it.
    queues.unblocked(["k"])
    queues.settled(again)
    queues.settled(late)
    assert queues.arrive(delivery("k", 2)) is Verdict.PARK


def test_outcomes_from_before_a_lease_was_lost_keep_their_key_blocked_when_the_partition_is_taken_again() -> (
    None
):
    queues = KeyQueues()
    first, second = delivery("k", 0), delivery("k", 1)
    queues.arrive(first)
    queues.arrive(second)
    queues.retried(first)
    queues.drop()
    queues.reset([])
    assert queues.arrive(delivery("k", 2)) is Verdict.PARK


def test_what_is_dropped_never_begins_and_what_was_begun_still_holds_its_key() -> None:
    queues = KeyQueues()
    first, second = delivery("k", 0), delivery("k", 1)
    queues.arrive(first)
    queues.arrive(second)
    assert queues.drop() == [second]
    claimed = delivery("k", 1, lease="w.2")
    assert queues.arrive(claimed) is Verdict.WAIT
    assert queues.settled(first) is claimed


class Model:
    """One partition on the server and one worker of it, as settle.lua, read.lua and the settler do it.

    Every step takes one of the things that may happen next; begun events are checked against the promise.
    """

    def __init__(self) -> None:
        self.lane: list[tuple[str, int]] = []
        self.published: dict[str, int] = defaultdict(int)
        self.pending: list[Delivery] = []
        self.head: dict[str, int] = {}
        self.parked: dict[str, list[int]] = defaultdict(list)
        self.delayed: list[tuple[str, int]] = []
        self.retry: list[tuple[str, int]] = []
        self.settled: set[tuple[str, int]] = set()
        self.began: dict[str, int] = defaultdict(lambda: -1)
        self.again: set[tuple[str, int]] = set()
        self.queues = KeyQueues()
        self.running: list[Delivery] = []
        self.outbox: list[tuple[str, Delivery]] = []
        self.replies: list[tuple[list[tuple[str, Delivery]], list[str]]] = []
        self.entries = 0
        self.frozen: tuple[Any, ...] | None = None

    def may(self, step: str) -> bool:
        """Whether something can happen now."""
        return {
            "end": bool(self.running),
            "settle": bool(self.outbox) and not self.replies,
            "reply": bool(self.replies),
            "fall_due": bool(self.delayed),
            "freeze": not self.replies,
            "thaw": self.frozen is not None,
        }.get(step, True)

    def publish(self, key: str) -> None:
        self.lane.append((key, self.published[key]))
        self.published[key] += 1

    def read(self, count: int) -> None:
        for stream, source in ((RETRY_STREAM, self.retry), (2, self.lane)):
            for key, number in source[:count]:
                self.entries += 1
                each = Delivery(
                    Event(id=f"{key}.{number}", body=b"1", key=key),
                    stream,
                    b"%d-0" % self.entries,
                    "w.1",
                    0.0,
                )
                self.pending.append(each)
                self.arrive(each)
            del source[:count]

    def arrive(self, each: Delivery) -> None:
        match self.queues.arrive(each):
            case Verdict.BEGIN:
                self.begin(each)
            case Verdict.PARK:
                self.outbox.append(("park", each))
            case Verdict.WAIT:
                pass

    def begin(self, each: Delivery) -> None:
        key, number = what(each)
        assert all((key, ahead) in self.settled for ahead in range(number)), f"{key}.{number} begins too soon"
        assert number >= self.began[key]
        self.began[key] = number
        self.running.append(each)

    def end(self, place: int, kind: str) -> None:
        each = self.running.pop(place % len(self.running))
        self.outbox.append((kind, each))
        if kind == "retry":
            self.outbox += [("park", behind) for behind in self.queues.retried(each)]

    def settle(self, count: int) -> None:
        """The server settles a batch; its reply is under way."""
        batch, self.outbox = self.outbox[:count], self.outbox[count:]
        unblocked: list[str] = []
        for kind, each in batch:
            if each not in self.pending:
                continue  # settled by another meanwhile: the fence
            key, number = what(each)
            self.pending.remove(each)
            if kind == "done":
                self.settled.add((key, number))
                if self.head.get(key) == number:
                    if self.parked[key]:
                        self.head[key] = self.parked[key].pop(0)
                        self.retry.append((key, self.head[key]))
                    else:
                        del self.head[key]
                        unblocked.append(key)
            elif kind == "retry":
                self.delayed.append((key, number))
                self.head.setdefault(key, number)
            elif self.head.get(key, number) != number:
                self.parked[key].append(number)
            else:
                self.head[key] = number
                self.retry.append((key, number))
        self.replies.append((batch, unblocked))

    def reply(self) -> None:
        """The worker hears of the settle."""
        batch, unblocked = self.replies.pop(0)
        self.queues.unblocked(unblocked)
        for _, each in batch:
            if (following := self.queues.settled(each)) is not None:
                self.begin(following)

    def fall_due(self) -> None:
        self.retry.append(self.delayed.pop(0))

    def die(self) -> None:
        """The worker dies; its heir has nothing but what the server knows."""
        self.queues, self.running, self.outbox, self.replies = KeyQueues(), [], [], []
        self.take()

    def freeze(self) -> None:
        """The worker loses its lease: it drops what it has not begun, and another takes over."""
        self.queues.drop()
        self.frozen = (self.queues, self.running, self.outbox, self.replies)
        self.die()

    def thaw(self) -> None:
        """The one that was frozen takes the partition again, with what it had begun and what it had not settled."""
        assert self.frozen is not None
        (self.queues, self.running, self.outbox, self.replies), self.frozen = self.frozen, None
        self.take()

    def take(self) -> None:
        """Claims all that is pending, in order; what the worker holds itself it goes on with."""
        known = {each.entry: each for each in (*self.running, *(each for _, each in self.outbox))}
        self.queues.reset(self.head)
        held = sorted(self.pending, key=lambda each: (each.stream != RETRY_STREAM, int(each.entry[:-2])))
        claims = [Delivery(each.event, each.stream, each.entry, "w.2", 0.0) for each in held]
        self.pending = [known.get(each.entry, each) for each in claims]
        for each in claims:
            if each.entry not in known:
                self.arrive(each)

    def finish(self) -> None:
        """Whatever is left comes to its end."""
        for _ in range(10_000):
            if self.running:
                self.end(0, "done")
            elif self.outbox and not self.replies:
                self.settle(3)
            elif self.replies:
                self.reply()
            elif self.delayed:
                self.fall_due()
            elif self.retry or self.lane:
                self.read(2)
            else:
                return
        raise AssertionError("it never comes to an end")


def what(each: Delivery) -> tuple[str, int]:
    key, number = each.event.id.split(".")
    return key, int(number)


# How often each thing happens, so that many keys are blocked and many outcomes are under way.
WEIGHTS = {
    "publish": 8,
    "read": 8,
    "end": 12,
    "settle": 8,
    "reply": 8,
    "fall_due": 5,
    "die": 1,
    "freeze": 1,
    "thaw": 3,
}


@pytest.mark.parametrize("first_seed", range(0, 400, 50))
def test_whatever_happens_no_event_begins_before_those_ahead_of_it_are_settled(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 50):
        dice, model = random.Random(seed), Model()
        arguments = {
            "publish": lambda dice=dice: (dice.choice(KEYS),),
            "read": lambda dice=dice: (dice.randint(1, 5),),
            "end": lambda dice=dice: (dice.randrange(6), dice.choice(["done"] * 5 + ["retry"])),
            "settle": lambda dice=dice: (dice.randint(1, 5),),
        }
        for step in dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=300):
            if model.may(step):
                getattr(model, step)(*arguments.get(step, tuple)())
        model.finish()
        assert model.settled == {(key, n) for key, count in model.published.items() for n in range(count)}
        assert (model.head, model.pending) == ({}, []), f"seed {seed}"


@given(st.integers(1, 200), st.sets(st.text(min_size=1), min_size=1, max_size=40))
def test_the_quotas_of_all_are_all_partitions_and_differ_by_one_at_most(
    partitions: int, members: set[str]
) -> None:
    shares = [quota(partitions, members, each) for each in members]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("partitions", "share"), [(1, 0), (7, 0)])
def test_one_that_is_no_member_has_no_share(partitions: int, share: int) -> None:
    assert quota(partitions, {"a", "b"}, "c") == share

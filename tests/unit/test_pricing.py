"""When pods are priced for those who stop some without asking first: while fewer are wanted, as seldom as will do."""

from __future__ import annotations

from headgate_operator.pricing import AGAIN_SECONDS, FOLLOW_SECONDS, Prices, decide


class Branch:
    """A branch that somebody else scales."""

    def __init__(self) -> None:
        self.prices = Prices()

    def priced(self, now: float, wanted: int, running: int, **holding: int) -> bool:
        self.prices, due = decide(self.prices, wanted, running, holding, now)
        return due


def test_pods_are_priced_at_once_when_fewer_are_wanted_and_not_before():
    branch = Branch()
    assert not branch.priced(1, 4, 3, a=1)
    assert not branch.priced(2, 3, 3, a=1)
    assert branch.priced(3, 2, 3, a=1)


def test_one_that_holds_nothing_from_the_start_is_priced_once_as_the_operator_before_may_have_priced_it():
    branch = Branch()
    assert branch.priced(1, 1, 2)
    assert not branch.priced(20, 1, 2)


def test_they_are_priced_again_when_somebody_holds_another_number_but_no_oftener_than_it_takes():
    branch = Branch()
    assert branch.priced(1, 1, 2, a=1)
    assert not branch.priced(1 + AGAIN_SECONDS, 1, 2, a=1, b=0)
    assert branch.priced(1 + AGAIN_SECONDS, 1, 2, a=2)
    assert [branch.priced(1 + AGAIN_SECONDS + n, 1, 2, a=n) for n in range(1, 11)].count(True) == 2


def test_an_engine_that_is_content_with_what_runs_costs_nothing_after_a_while():
    branch = Branch()
    calls = [branch.priced(now, 19, 20, a=now) for now in range(1, 1000)]
    assert calls.count(True) == FOLLOW_SECONDS / AGAIN_SECONDS + 1
    assert not any(calls[100:])
    assert branch.priced(1000, 18, 20, a=1), "fewer still: now it may follow"
    assert not branch.priced(1000 + AGAIN_SECONDS + FOLLOW_SECONDS, 19, 20, a=2)
    assert not branch.priced(1100, 20, 20, a=2)
    assert branch.priced(1101, 19, 20, a=2), "another time"

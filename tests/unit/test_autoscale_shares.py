"""The laws of a namespace's total: fair, used up, and never promised twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate_operator.fair_share import Claim, shares
from headgate_operator.totals import CLAIM_SECONDS, Claimant, Totals

CLAIMS = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(Claim, wanted=st.integers(0, 60), least=st.integers(0, 20), running=st.integers(0, 60)),
    min_size=1,
)


def who(branch: str) -> Claimant:
    return Claimant("orders", branch)


@given(st.integers(0, 100), CLAIMS)
def test_nobody_gets_more_than_wanted_and_all_of_the_total_is_used_while_more_is_wanted(
    total: int, claims: dict[str, Claim]
):
    found = shares(total, claims)
    assert all(0 <= found[name] <= claim.wanted for name, claim in claims.items())
    assert sum(found.values()) == min(total, sum(claim.wanted for claim in claims.values()))


@given(st.integers(0, 100), CLAIMS)
def test_whoever_is_short_has_as_many_as_anybody_above_their_minimum(total: int, claims: dict[str, Claim]):
    found = shares(total, claims)
    for short in (name for name, claim in claims.items() if found[name] < claim.wanted):
        for other, claim in claims.items():
            if found[other] > min(claim.least, claim.wanted):
                assert found[short] >= found[other] - 1


@given(st.integers(0, 100), CLAIMS)
def test_minimums_come_first(total: int, claims: dict[str, Claim]):
    least = {name: min(claim.least, claim.wanted) for name, claim in claims.items()}
    if sum(least.values()) <= total:
        found = shares(total, claims)
        assert all(found[name] >= count for name, count in least.items())


def test_a_small_want_is_met_in_full_and_the_rest_is_divided():
    wanted = {"small": Claim(2), "large": Claim(50), "larger": Claim(90)}
    assert shares(20, wanted) == {"small": 2, "large": 9, "larger": 9}


def test_a_last_worker_stays_where_it_runs():
    assert shares(5, {"a": Claim(9, running=2), "b": Claim(9, running=3)}) == {"a": 2, "b": 3}
    assert shares(5, {"a": Claim(9, running=3), "b": Claim(9, running=2)}) == {"a": 3, "b": 2}


@given(st.integers(1, 40), st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 60)), max_size=60))
def test_however_wants_change_no_more_than_the_total_ever_runs_and_all_settles(
    total: int, changes: list[tuple[str, int]]
):
    totals, running, wanted, now = Totals(total), dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 0), 0.0

    def tick() -> None:
        for name in "abcd":
            claim = Claim(wanted[name], running=running[name])
            running[name] = totals.grant("shop", who(name), claim, now)
            assert sum(running.values()) <= total

    for name, want in changes:
        wanted[name] = want
        now += 1
        tick()
    for _ in range(5):
        now += 1
        tick()
    assert sum(running.values()) == min(total, sum(wanted.values()))
    short = [running[name] for name in "abcd" if running[name] < wanted[name]]
    assert max(short, default=0) - min(short, default=0) <= 1


def test_each_namespace_has_a_total_of_its_own_and_without_one_everybody_gets_what_they_want():
    totals = Totals(5)
    assert totals.grant("shop", who("a"), Claim(9), 0) == 5
    assert totals.grant("mail", who("a"), Claim(9), 0) == 5
    assert Totals().grant("shop", who("a"), Claim(9000), 0) == 9000


def test_workers_that_others_scale_count():
    totals = Totals(10)
    totals.note("shop", who("keda"), 8, 0)
    assert totals.grant("shop", who("ours"), Claim(9), 0) == 2


def test_the_claim_of_a_branch_that_is_gone_lapses():
    totals = Totals(10)
    assert totals.grant("shop", who("gone"), Claim(10), 0) == 10
    assert totals.grant("shop", who("new"), Claim(10), 1) == 0
    now = 1.0
    while (granted := totals.grant("shop", who("new"), Claim(10), now)) == 0:
        now += 1
        assert now < 3 * CLAIM_SECONDS
    assert granted == 10


def test_what_a_branch_runs_of_its_share_it_keeps_while_another_is_above_its_own():
    totals = Totals(10)
    totals.note("shop", who("above"), 8, 0)
    totals.grant("shop", who("above"), Claim(8, running=8), 0)
    assert totals.grant("shop", who("other"), Claim(9, running=5), 1) == 5
    assert totals.grant("shop", who("above"), Claim(8, running=8), 2) == 5

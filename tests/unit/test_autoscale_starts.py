"""The laws of workers that start: how long that takes is learnt and anticipated, and who fails gets no more."""

from __future__ import annotations

from dataclasses import replace

from headgate_operator.autoscale import Decision, ScaleLimits, ScalerInputs, ScalerState, WorkerRate, decide
from headgate_operator.autoscale.starts import LOOP_SECONDS, PATIENCE_SECONDS, Starts

IDLE = ScalerInputs(now=0, published=0, settled=0, busy_seconds=0, backlog=0, current=0, ready=0)
KNOWN = ScalerState(rate=WorkerRate(settled=100, worker_seconds=10, seconds=10, handled=100, busy_seconds=8))
LIMITS = ScaleLimits(max=100, drain_within_seconds=30, scale_down_after_seconds=60, concurrency=8)


def started(seconds: int, times: int = 1, state: ScalerState = KNOWN) -> ScalerState:
    """After workers that took so long from being asked for until they could work."""
    now = -1000.0
    for _ in range(times):
        for current, ready in ((0, 0), *[(5, 0)] * (seconds - 1), (5, 5), (0, 0)):
            now += 1
            state = decide(state, replace(IDLE, now=now, current=current, ready=ready), LIMITS).state
    return state


def test_the_time_from_asking_to_ready_is_learnt():
    assert started(seconds=9).starts.seconds == 9
    assert Starts().seconds == 0


def test_one_start_that_took_long_is_no_rule():
    state = started(seconds=300, state=started(seconds=4, times=3))
    assert state.starts.seconds == 4


def test_what_will_have_come_when_new_workers_are_ready_counts():
    """100 a second arrive at 2 workers of 10: while others start for 30 s, another 2,400 come."""

    def wanted(state: ScalerState) -> int:
        for now in range(40):
            inputs = replace(IDLE, now=now, published=100 * now, backlog=900, current=2, ready=2)
            inputs = replace(inputs, settled=20 * now, busy_seconds=16 * now)
            decision = decide(state, inputs, LIMITS)
            state = decision.state
        return decision.replicas

    quick, slow = wanted(started(seconds=2)), wanted(started(seconds=30))
    assert quick == 14  # (100 + (900 - 16 slots + 2 s of 80) / 30) / 10
    assert slow == 21  # (100 + (900 - 16 slots + 30 s of 80) / 30) / 10


class Loop:
    """A branch with a large backlog whose workers the test lets fail."""

    def __init__(self, current: int, ready: int) -> None:
        self.state, self.now, self.restarts = KNOWN, 0.0, 0
        self.current, self.ready = current, ready
        self.decision: Decision | None = None

    def second(self, *, backlog: int = 30_000, failed: int = 0, ready: int | None = None) -> Decision:
        self.now += 1
        self.restarts += failed
        self.ready = self.ready if ready is None else ready
        inputs = replace(IDLE, now=self.now, backlog=backlog, restarts=self.restarts)
        self.decision = decide(self.state, replace(inputs, current=self.current, ready=self.ready), LIMITS)
        self.state = self.decision.state
        return self.decision


def test_while_workers_end_by_themselves_no_more_are_asked_for():
    loop = Loop(current=3, ready=0)
    loop.second(backlog=300)
    for _ in range(200):
        decision = loop.second(failed=3)
        assert (decision.replicas, decision.reason) == (3, "SlowStart")
    assert "do not stay up" in decision.sentence


def test_workers_that_stay_up_double_and_then_all_come():
    loop = Loop(current=3, ready=0)
    loop.second(backlog=300)
    loop.second(failed=3)
    wanted = []
    for _ in range(int(LOOP_SECONDS) + 5):
        decision = loop.second(ready=2)
        wanted.append(decision.replicas)
    assert wanted[:15] == [3] * 15
    assert wanted[25] == 4, "twice the two that stayed up"
    assert wanted[-1] == 100


def test_one_failure_among_many_is_no_loop():
    loop = Loop(current=20, ready=20)
    loop.second(backlog=3000)
    loop.second(backlog=3000)
    assert loop.second(failed=1, ready=19).replicas == 38


def test_workers_of_which_none_becomes_ready_get_no_more():
    loop = Loop(current=3, ready=0)
    loop.second(backlog=600)
    assert loop.second(backlog=900).replicas == 3
    for _ in range(int(PATIENCE_SECONDS)):
        loop.second(backlog=900)
    assert loop.second().reason == "SlowStart"
    assert loop.second(ready=1).replicas == 100


def test_the_minimum_is_asked_for_in_any_case():
    loop = Loop(current=0, ready=0)
    loop.second(failed=1)
    inputs = replace(IDLE, now=5, backlog=9000, restarts=9)
    assert decide(loop.state, inputs, replace(LIMITS, min=7)).replicas == 7


def test_steps_up_wait_for_the_workers_of_the_step_before():
    bounds, state, current, history = replace(LIMITS, max_step=10), started(seconds=6, times=5), 0, []
    asked = [0.0]
    for now in range(1, 30):
        ready = current if now - asked[-1] >= 6 else max(0, current - 10)
        inputs = replace(IDLE, now=now, backlog=100_000, current=current, ready=ready)
        decision = decide(state, inputs, bounds)
        state = decision.state
        if decision.replicas != current:
            asked.append(now)
            current = decision.replicas
        history.append(decision.replicas)
        assert decision.reason == "Step"
    assert sorted(set(history)) == [10, 20, 30, 40, 50]
    assert "at most 10 are added at once" in decision.sentence

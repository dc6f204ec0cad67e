from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from headgate.event import Lane
from headgate.streams import BranchMeasurement, Closed, PipelineMeasurement
from headgate_operator.api import FanoutPipelineStatus, GateState
from headgate_operator.conditions import STARTING_SECONDS, TRIMMED_SECONDS
from headgate_operator.events import healing, transitions
from headgate_operator.problem import Problem
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.reconcile import Findings
from headgate_operator.scene import Scene
from headgate_operator.status import compose, loaded, merge_patch, significant
from headgate_operator.substrates import Workers
from unit.pipelines import pipeline

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEVELS = {"levels": [{"name": "Delay", "lag": 10, "releaseLag": 5, "delay": ["Low"]}]}
EMPTY = FanoutPipelineStatus()


IDLE = Workers()


def reading(*, workers=IDLE, measured=True, level="", error="", closed=None, **figures):
    found = BranchMeasurement(**figures) if measured else None
    branch = BranchReading(
        name="pack",
        measurement=found,
        workers=workers,
        replicas=workers.desired,
        delayed=frozenset({Lane.LOW}) if level else frozenset(),
        settled_per_second=0,
        closed=closed,
    )
    return PipelineReading(
        pipeline=pipeline(backpressure=LEVELS),
        measurement=PipelineMeasurement(published=7, branches={"pack": found}) if measured else None,
        branches={"pack": branch},
        level=level,
        published_per_second=0,
        error=error,
    )


def findings(spec=None, **problems):
    return Findings(3, pipeline(backpressure=LEVELS, **(spec or {})), **problems)


def status(given=None, found=None, *, before=EMPTY, now=NOW, output=None):
    return compose(Scene(found or findings(), given, before, now, output))


def verdict(composed, name):
    (condition,) = [each for each in composed.conditions if each.type == name]
    return f"{condition.status}/{condition.reason}"


def message(composed, name):
    return next(each.message for each in composed.conditions if each.type == name)


def told(before, after):
    return [notice.reason for notice in transitions(before, after)]


def test_every_condition_is_always_there():
    names = [each.type for each in status().conditions]
    assert names == [each.type for each in status(reading()).conditions]
    assert len(names) == len(set(names)) == 13


def test_a_pipeline_that_works_is_ready():
    ready = status(reading(workers=Workers(desired=2, running=2, ready=1)))
    assert verdict(ready, "Ready") == "True/Ready"
    assert verdict(ready, "Reconciling") == "False/UpToDate"
    assert ready.observed_generation == 3


def test_a_pipeline_without_work_needs_no_workers_to_be_ready():
    assert verdict(status(reading()), "Ready") == "True/Ready"


def test_nothing_is_ready_before_the_first_reading():
    first = status()
    assert verdict(first, "Ready") == "False/NotObserved"
    assert verdict(first, "ScalingActive") == "Unknown/NotMeasured"


def test_workers_that_start_from_zero_leave_it_ready():
    waking = reading(workers=Workers(desired=1, running=1))
    before = status(reading())
    during = status(waking, before=before, now=NOW + timedelta(seconds=9))
    assert verdict(during, "WorkersAvailable") == "False/WorkersStarting"
    assert verdict(during, "Ready") == "True/Ready"
    assert told(before, during) == ["ScaledUp"]


def test_workers_that_never_get_ready_make_it_unready_and_say_where_to_look():
    waking = reading(workers=Workers(desired=1, running=1))
    during = status(waking, before=status(reading()))
    late = NOW + timedelta(seconds=STARTING_SECONDS + 1)
    stuck = status(waking, before=during, now=late)
    assert verdict(stuck, "Ready") == "False/WorkersNotReady"
    assert "kubectl -n shop describe pods -l headgate.dev/pipeline=orders" in message(stuck, "Ready")
    assert told(during, stuck) == ["NotReady"]


@pytest.mark.parametrize("when", ["at the pass", "at the tick"])
def test_a_server_that_is_away_is_said_once_and_what_is_unknown_is_absent(when):
    good = status(reading())
    if when == "at the pass":
        given = (None, findings(redis=Problem("ServerUnavailable", "no answer; check that it runs")))
    else:
        given = (reading(measured=False, error="no answer"), findings())
    away = status(*given, before=good)
    assert verdict(away, "RedisReachable") == "False/ServerUnavailable"
    assert verdict(away, "Ready") == "False/ServerUnavailable"
    assert away.backlog is None
    assert away.published is None
    assert merge_patch(away)["status"]["backlog"] is None
    assert "RedisUnreachable" in told(good, away)
    assert told(away, status(*given, before=away)) == []
    assert "RedisReachable" in told(away, status(reading(), before=away))


def test_an_unknown_backlog_is_neither_zero_nor_summed():
    unknown = status(reading(undelivered=None))
    assert unknown.backlog is None
    assert unknown.branches[0].backlog is None
    waking = status(reading(workers=Workers(desired=1, running=1)))
    assert waking.branches_ready == "0/1"
    assert verdict(unknown, "ScalingActive") == "False/BacklogUnknown"


def test_figures_are_those_of_the_reading():
    found = status(
        reading(
            workers=Workers(desired=3, running=2, ready=1),
            undelivered=5,
            pending=2,
            delayed=1,
            dead_letters=4,
            age_ms=61_500,
        )
    )
    (branch,) = found.branches
    assert (found.published, found.backlog) == (7, 8)
    assert (found.branches_ready, found.workers, found.oldest_seconds, found.dead_letters) == (
        "1/1",
        1,
        61,
        4,
    )
    assert (branch.replicas, branch.ready_replicas, branch.desired_replicas) == (2, 1, 3)
    assert (branch.backlog, branch.age_seconds, branch.dead_letters) == (8, 61, 4)


def test_dead_letters_are_counted_with_where_to_look():
    found = status(reading(dead_letters=2))
    assert verdict(found, "DeadLettersPresent") == "True/EventsGivenUp"
    assert "pack: 2" in message(found, "DeadLettersPresent")
    assert told(status(reading()), found) == ["DeadLettersPresent"]
    away = status(reading(measured=False, error="gone"), before=found)
    assert verdict(away, "DeadLettersPresent") == "True/EventsGivenUp"


def test_backpressure_names_level_and_lanes():
    before, during = status(reading()), status(reading(level="Delay", undelivered=20))
    assert verdict(during, "BackpressureActive") == "True/LevelCrossed"
    assert "pack: Low" in message(during, "BackpressureActive")
    assert during.level == "Delay"
    assert during.branches[0].gate is GateState.DELAYED
    assert told(before, during) == ["BackpressureEngaged"]
    assert told(during, status(reading(), before=during)) == ["BackpressureReleased"]


def test_backpressure_of_a_branch_alone_counts_and_says_what_publishers_are_refused():
    own = {"backpressure": LEVELS | {"maxDelaySeconds": 70}}
    seen = reading(level="Delay", undelivered=20)
    rejecting = replace(seen.branches["pack"], rejected=frozenset({Lane.LOW, Lane.NORMAL}))
    found = replace(seen, branches={"pack": rejecting})
    during = status(found, Findings(3, pipeline(own)))
    assert verdict(during, "BackpressureActive") == "True/LevelCrossed"
    assert message(during, "BackpressureActive") == (
        "level Delay; lanes that wait: pack: Low (70 s at most); publishers are refused Low and Normal for pack"
    )
    assert verdict(status(found, Findings(3, pipeline())), "BackpressureActive") == "False/NotConfigured"


def test_a_closed_branch_says_why_and_how_to_open_it():
    gone = Closed(reason="410 Gone", target="https://hooks.example", at="2026-01-31T11:00:00Z")
    before, shut = status(reading()), status(reading(closed=gone, undelivered=9))
    assert verdict(before, "BranchClosed") == "False/Open"
    assert verdict(shut, "BranchClosed") == "True/TargetGone"
    assert "pack since 2026-01-31T11:00:00Z: 410 Gone" in message(shut, "BranchClosed")
    assert "headgate open --redis-url URL -p shop/orders -b pack" in message(shut, "BranchClosed")
    assert shut.branches[0].gate is GateState.CLOSED
    assert "pack: closed, and held at scale.min" in message(shut, "ScalingActive")
    assert told(before, shut) == ["BranchClosed"]
    away = status(reading(measured=False, error="gone"), before=shut)
    assert verdict(away, "BranchClosed") == "True/TargetGone"
    assert told(shut, status(reading(), before=shut)) == ["BranchOpened"]


def test_events_that_retention_took_unsettled_are_told_once_an_hour_while_it_goes_on():
    calm = status(reading())
    assert verdict(calm, "EventsTrimmed") == "False/None"
    losing = status(reading(unread_trimmed=120), before=calm)
    assert verdict(losing, "EventsTrimmed") == "True/RetentionExceeded"
    assert "pack: 120" in message(losing, "EventsTrimmed")
    assert losing.branches[0].unread_trimmed == 120
    assert told(calm, losing) == ["EventsTrimmed"]
    soon = status(reading(unread_trimmed=120), before=losing, now=NOW + timedelta(seconds=60))
    assert verdict(soon, "EventsTrimmed") == "True/RetentionExceeded"
    assert told(losing, soon) == []
    later = NOW + timedelta(seconds=TRIMMED_SECONDS + 1)
    over = status(reading(unread_trimmed=120), before=soon, now=later)
    assert verdict(over, "EventsTrimmed") == "False/None"
    again = status(reading(unread_trimmed=121), before=over, now=later)
    assert told(over, again) == ["EventsTrimmed"]


def test_lost_groups_are_told_with_what_to_look_for():
    notice = healing(("pack", "ship"))
    assert (notice.severity.value, notice.reason) == ("Warning", "GroupsHealed")
    assert "pack, ship" in notice.note
    assert "FLUSHALL" in notice.note


@pytest.mark.parametrize(
    "reason",
    ["NameTaken", "PodRefused", "UsersRefused", "NoWorkerImage", "KedaNotInstalled", "NoScalerAddress"],
)
def test_what_somebody_has_to_mend_before_workers_are_applied_stalls(reason):
    taken = status(reading(), findings(workers=Problem(reason, "Deployment orders-pack exists")))
    assert verdict(taken, "Stalled") == f"True/{reason}"
    assert verdict(taken, "Ready") == f"False/{reason}"
    assert told(EMPTY, taken) == ["Stalled"]


def test_an_invalid_spec_stalls_and_its_message_is_the_error():
    bad = status(None, Findings(3, None, spec=Problem("Invalid", "spec.branches: Required value")))
    assert verdict(bad, "SpecValid") == "False/Invalid"
    assert message(bad, "Stalled") == "spec.branches: Required value"


def test_the_transition_time_moves_with_the_status_only():
    first = status(reading())
    later = status(reading(undelivered=3), before=first, now=NOW + timedelta(hours=1))
    assert {each.last_transition_time for each in later.conditions} == {"2026-01-31T12:00:00Z"}
    away = status(reading(measured=False, error="x"), before=later, now=NOW + timedelta(hours=2))
    moved = {each.type for each in away.conditions if each.last_transition_time == "2026-01-31T14:00:00Z"}
    assert moved == {"Ready", "RedisReachable", "ScalingActive", "Reconciling"}


def test_the_same_again_is_equal_and_an_idle_pipeline_is_not_written():
    first = status(reading())
    again = status(reading(), before=loaded(merge_patch(first)["status"]), now=NOW + timedelta(hours=1))
    assert again == first


def test_figures_alone_can_wait_but_conditions_cannot():
    first = status(reading())
    assert not significant(first, status(reading(undelivered=4), before=first))
    assert significant(first, status(reading(dead_letters=1), before=first))


def test_a_restart_tells_nothing_twice():
    after = status(reading(dead_letters=1, workers=Workers(desired=2, ready=2)))
    assert told(loaded(merge_patch(after)["status"]), after) == []


def test_a_pause_is_a_condition_that_names_the_field_and_what_it_stops():
    before = status(reading())
    assert verdict(before, "Paused") == "False/NotPaused"
    whole = status(reading(), findings({"paused": True}), before=before)
    assert verdict(whole, "Paused") == "True/PipelinePaused"
    assert "spec.paused" in message(whole, "Paused")
    assert "pack: paused" in message(whole, "ScalingActive")
    assert told(before, whole) == ["Paused"]
    assert told(whole, status(reading(), before=whole)) == ["Resumed"]
    one = status(reading(), Findings(3, pipeline({"paused": True})))
    assert verdict(one, "Paused") == "True/BranchPaused"
    assert "pack" in message(one, "Paused")


def test_a_missing_output_pipeline_is_told_with_field_and_remedy():
    missing = Problem("OutputMissing", "spec.join.output.pipeline: 'catalogue': no such pipeline: apply it")
    before, during = status(reading()), status(reading(), output=missing)
    assert verdict(before, "OutputMissing") == "False/NotConfigured"
    assert verdict(during, "OutputMissing") == "True/OutputMissing"
    assert "spec.join.output.pipeline: 'catalogue'" in message(during, "OutputMissing")
    assert told(before, during) == ["OutputMissing"]
    assert told(during, status(reading(), before=during)) == ["OutputFound"]


def test_what_others_scale_is_said_where_scaling_is():
    found = status(reading(), Findings(3, pipeline({"scale": {"engine": "Keda"}})))
    assert "pack: scaled by KEDA" in message(found, "ScalingActive")


def test_a_branch_that_was_taken_out_shows_what_it_still_has():
    draining = replace(reading(), draining={"ship": 12})
    assert "ship: taken out, works off the 12 events" in message(status(draining), "ScalingActive")


def test_a_dry_run_shows_its_plan():
    planned = status(reading(), findings(plan=("Deployment orders-pack: would be created",)))
    assert planned.plan == ("Deployment orders-pack: would be created",)
    assert merge_patch(status(reading(), before=planned))["status"]["plan"] == []

from __future__ import annotations

import pytest
from prometheus_client.registry import CollectorRegistry

from headgate_operator.vitals import Vitals


@pytest.fixture
def vitals():
    return Vitals()


@pytest.fixture
def value(vitals):
    registry = CollectorRegistry()
    registry.register(vitals)
    return lambda name, **labels: registry.get_sample_value(f"headgate_{name}", labels)


def test_passes_are_counted_by_outcome_and_timed(vitals, value):
    with vitals.reconciling() as clean:
        clean.clean = True
    with vitals.reconciling():
        pass
    with pytest.raises(RuntimeError), vitals.reconciling():
        raise RuntimeError("a fault")
    assert value("operator_reconciles_total", outcome="clean") == 1
    assert value("operator_reconciles_total", outcome="problem") == 1
    assert value("operator_reconciles_total", outcome="error") == 1
    assert value("operator_reconcile_seconds_count") == 3


def test_ticks_are_timed_and_none_is_early(vitals, value):
    vitals.ticked(0.2, -0.01)
    vitals.ticked(0.4, 0.5)
    assert value("pilot_tick_seconds_sum") == pytest.approx(0.6)
    assert value("pilot_tick_lateness_seconds_sum") == 0.5


def test_decisions_are_counted_by_reason(vitals, value):
    vitals.decided("Backlog")
    vitals.decided("Backlog")
    vitals.decided("Window")
    assert value("pilot_decisions_total", reason="Backlog") == 2
    assert value("pilot_decisions_total", reason="Window") == 1


def test_queue_and_lead_are_asked_for_when_they_are_read(vitals, value):
    queue = [3]
    vitals.watch(queue=lambda: queue[0], leads=lambda: True)
    assert value("operator_queue_pipelines") == 3
    queue[0] = 0
    assert value("operator_queue_pipelines") == 0
    assert value("operator_leader") == 1

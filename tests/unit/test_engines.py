"""Who scales a branch, the objects that they get, and what KEDA is told, asked as KEDA asks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from headgate.streams import BranchMeasurement, PipelineMeasurement
from headgate_operator import autoscale, engines
from headgate_operator.api import ScaleEngine
from headgate_operator.engines import messages
from headgate_operator.engines.figures import Figures
from headgate_operator.engines.manifests import EXTERNAL_METRIC
from headgate_operator.engines.scaler import scaler
from headgate_operator.engines.service import ScalerService
from headgate_operator.flight import Flight
from headgate_operator.pilot import Pilot
from headgate_operator.problem import Problem
from headgate_operator.readings import BranchReading, PipelineReading
from headgate_operator.rest import is_at_rest
from headgate_operator.scaling import Scaling, asked
from headgate_operator.substrates import Workers
from unit.pipelines import pipeline

ADDRESS = "headgate-scaler.headgate:6000"
CLOSING_SECONDS = 30


def scaled(engine, **scale):
    return {"scale": {"engine": engine, "min": 0, "max": 32} | scale}


def test_a_branch_of_keda_gets_a_scaled_object_that_asks_the_operator():
    (found,) = engines.manifests(pipeline(scaled("Keda", min=2)), ADDRESS)
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert found["metadata"]["name"] == found["spec"]["scaleTargetRef"]["name"] == "orders-pack"
    assert found["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert found["metadata"]["labels"]["headgate.dev/branch"] == "pack"
    assert (found["spec"]["minReplicaCount"], found["spec"]["maxReplicaCount"]) == (2, 32)
    (trigger,) = found["spec"]["triggers"]
    assert trigger["type"] == "external-push"
    assert trigger["metadata"] == {"scalerAddress": ADDRESS, "pipeline": "orders", "branch": "pack"}


def test_keda_without_an_address_is_a_problem_with_a_remedy():
    with pytest.raises(Problem) as raised:
        engines.manifests(pipeline(scaled("Keda")), None)
    assert raised.value.reason == "NoScalerAddress"
    assert "HEADGATE_SCALER_ADDRESS" in raised.value.message


def test_a_branch_of_an_autoscaler_follows_the_operators_metric_and_keeps_a_worker():
    (found,) = engines.manifests(pipeline(scaled("Hpa")), None)
    assert (found["apiVersion"], found["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (1, 32)
    (metric,) = found["spec"]["metrics"]
    assert metric["external"]["metric"] == {
        "name": EXTERNAL_METRIC,
        "selector": {"matchLabels": {"pipeline": "orders", "branch": "pack"}},
    }
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


def test_the_pilots_branches_and_nobodys_get_nothing():
    assert engines.manifests(pipeline(scaled("Pilot"), scaled("None") | {"name": "ship"}), ADDRESS) == []


@pytest.mark.parametrize(
    ("engine", "paused"),
    [
        (ScaleEngine.PILOT, ScaleEngine.PILOT),
        (ScaleEngine.KEDA, ScaleEngine.PILOT),
        (ScaleEngine.HPA, ScaleEngine.PILOT),
        (ScaleEngine.NONE, ScaleEngine.NONE),
    ],
)
def test_a_paused_branch_is_the_pilots_but_for_nobodys(engine, paused):
    assert engines.in_force(pipeline(scaled(engine)), "pack") is engine
    assert engines.in_force(pipeline(scaled(engine) | {"paused": True}), "pack") is paused
    assert engines.in_force(pipeline(scaled(engine), paused=True), "pack") is paused


def test_only_an_autoscaler_needs_a_worker_at_least():
    assert [engines.fewest(pipeline(scaled(engine)), "pack") for engine in ScaleEngine] == [0, 0, 1, 0]
    assert engines.fewest(pipeline(scaled("Hpa", min=3)), "pack") == 3


class World:
    """Readings as a pilot would leave them, and a server of figures from them."""

    def __init__(self):
        self.reading = None
        self.figures = Figures(lambda *key: self.reading if key == ("shop", "orders") else None)

    def show(self, replicas, *, backlog=5):
        decision = None
        if replicas is not None:
            decision = autoscale.Decision(autoscale.ScalerState(), replicas, "Backlog", "")
        found = None if backlog is None else BranchMeasurement(undelivered=backlog)
        branch = BranchReading(
            name="pack",
            measurement=found,
            workers=Workers(foreign=True),
            replicas=replicas or 0,
            delayed=frozenset(),
            settled_per_second=0,
            decision=decision,
        )
        self.reading = PipelineReading(
            pipeline=pipeline(scaled("Keda")),
            measurement=None if found is None else PipelineMeasurement(branches={"pack": found}),
            branches={"pack": branch},
            level="",
            published_per_second=0,
            error="" if found else "cannot be measured: no answer",
        )
        self.figures.looked(("shop", "orders"))


class Keda:
    """A client that calls as KEDA does, by the protocol's names alone."""

    def __init__(self, channel):
        self.channel = channel

    def reference(self, **metadata):
        names = {"scalerAddress": ADDRESS, "pipeline": "orders", "branch": "pack"} | metadata
        given = {name: value for name, value in names.items() if value}
        return messages.ScaledObjectRef(name="orders-pack", namespace="shop", scalerMetadata=given)

    async def is_active(self, **metadata):
        answer = await self._unary("IsActive", messages.IsActiveResponse)(self.reference(**metadata))
        return answer.result

    async def metric(self):
        call = self._unary("GetMetrics", messages.GetMetricsResponse)
        request = messages.GetMetricsRequest(scaledObjectRef=self.reference(), metricName="headgate-workers")
        (value,) = (await call(request)).metricValues
        assert value.metricValueFloat == value.metricValue
        return value.metricName, value.metricValue

    async def spec(self):
        answer = await self._unary("GetMetricSpec", messages.GetMetricSpecResponse)(self.reference())
        (spec,) = answer.metricSpecs
        assert spec.targetSizeFloat == spec.targetSize
        return spec.metricName, spec.targetSize

    def activity(self):
        call = self.channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=messages.IsActiveResponse.FromString,
        )
        return call(self.reference())

    def _unary(self, name, response):
        return self.channel.unary_unary(
            f"/externalscaler.ExternalScaler/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )


@pytest.fixture
async def world():
    return World()


@pytest.fixture
async def keda(world):
    async with scaler(world.figures, 0) as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Keda(channel)


async def test_keda_is_given_the_workers_that_the_pilot_wants(world, keda):
    for wanted in (32, 1, 0):
        world.show(wanted)
        assert await keda.metric() == ("headgate-workers", wanted)
        assert await keda.is_active() is (wanted > 0)


async def test_the_target_is_one_a_worker_so_that_an_autoscaler_asks_for_the_metrics_value(world, keda):
    world.show(7)
    assert await keda.spec() == ("headgate-workers", 1)


@pytest.mark.parametrize(
    ("replicas", "backlog"), [(3, None), (None, 5), (0, None)], ids=["unmeasured", "undecided", "zero"]
)
async def test_an_unknown_backlog_is_an_error_and_never_a_zero(world, keda, replicas, backlog):
    world.show(replicas, backlog=backlog)
    for call in (keda.is_active, keda.metric):
        with pytest.raises(aio.AioRpcError) as raised:
            await call()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "unknown" in raised.value.details()


async def test_a_pipeline_that_was_not_measured_yet_is_an_error_too(keda):
    with pytest.raises(aio.AioRpcError) as raised:
        await keda.is_active()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "shop/orders" in raised.value.details()


async def test_a_branch_that_there_is_not_is_named(world, keda):
    world.show(1)
    with pytest.raises(aio.AioRpcError) as raised:
        await keda.is_active(branch="peck")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'peck'" in raised.value.details()
    assert "pack" in raised.value.details()


@pytest.mark.parametrize("field", ["pipeline", "branch"])
async def test_a_trigger_that_names_no_branch_is_told_so(world, keda, field):
    world.show(1)
    with pytest.raises(aio.AioRpcError) as raised:
        await keda.is_active(**{field: ""})
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"triggers[].metadata.{field}" in raised.value.details()


async def test_work_is_pushed_at_the_reading_that_shows_it(world, keda):
    world.show(0, backlog=0)
    stream = keda.activity()
    assert (await stream.read()).result is False
    world.show(32)
    assert (await stream.read()).result is True
    world.show(8)
    await asyncio.sleep(0.1)  # still active: there would be time to tell it, and there is nothing to tell
    world.show(0, backlog=0)
    assert (await stream.read()).result is False


async def test_while_the_backlog_is_unknown_the_stream_is_silent_and_stays_open(world, keda):
    world.show(4)
    stream = keda.activity()
    assert (await stream.read()).result is True
    world.show(0, backlog=None)
    world.reading = None
    world.figures.looked(("shop", "orders"))
    silent = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0.2)
    assert not silent.done()
    world.show(0, backlog=0)
    assert (await silent).result is False


async def test_a_stream_ends_in_order_when_the_operator_stops(world):
    world.show(1)
    async with contextlib.AsyncExitStack() as stack:
        async with scaler(world.figures, 0) as port:
            channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
            stream = Keda(channel).activity()
            assert (await stream.read()).result is True
        async with asyncio.timeout(CLOSING_SECONDS):
            assert await stream.read() is aio.EOF
            assert await stream.code() is grpc.StatusCode.OK


async def test_a_watcher_that_went_leaves_nothing_behind(world, keda):
    world.show(1)
    stream = keda.activity()
    await stream.read()
    assert world.figures._watchers
    stream.cancel()
    async with asyncio.timeout(CLOSING_SECONDS):
        while world.figures._watchers:  # noqa: ASYNC110  # nobody tells when it is empty
            await asyncio.sleep(0.01)


async def test_a_port_that_is_taken_is_named(world):
    async with scaler(world.figures, 0) as port:
        with pytest.raises(OSError, match=f"scaler port: {port}: "):
            async with scaler(Figures(lambda *_: None), port):
                pass


@pytest.mark.parametrize("address", ["headgate-scaler", "headgate-scaler:", ":6000", "headgate-scaler:grpc"])
async def test_an_address_at_which_nobody_could_be_reached_is_refused(address):
    pilot = Pilot(lambda _: None, Elsewhere())
    with pytest.raises(ValueError, match="HEADGATE_SCALER_ADDRESS: "):
        ScalerService(pilot, address, 0)


async def test_without_an_address_nothing_is_served():
    service = ScalerService(Pilot(lambda _: None, Elsewhere()), None, 0)
    await service.start()
    assert service.port == 0
    await service.stop()


async def test_a_reading_of_the_pilot_is_what_keda_is_told(monkeypatch):
    pilot, world = Pilot(lambda _: None, Elsewhere()), World()
    monkeypatch.setattr(pilot, "reading", lambda *_: world.reading)
    service = ScalerService(pilot, ADDRESS, 0)
    await service.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            world.show(0, backlog=0)
            stream = Keda(channel).activity()
            assert (await stream.read()).result is False
            world.show(2)
            for tell in pilot.listeners:
                tell(("shop", "orders"))
            assert (await stream.read()).result is True
    finally:
        await service.stop()


class Elsewhere:
    """A substrate whose workers somebody else scales."""

    def __init__(self):
        self.asked = []

    async def scale(self, _pipeline, branch, replicas, _holding):
        self.asked.append((branch, replicas))

    async def price(self, _pipeline, _branch, _holding):
        raise AssertionError("no fewer are wanted than there are")


async def decided(engine, *, foreign, running=3, total=0):
    """What is decided about 80 events that wait, and what was asked of the substrate for it."""
    flight = Flight(pipeline(scaled(engine)))
    (branch,) = flight.pipeline.spec.branches
    workers = Workers(running, running, running, foreign=foreign)
    flight.branches["pack"].workers = workers
    place = Elsewhere()
    decision = await Scaling(place, total=total).scale(
        flight, branch, BranchMeasurement(undelivered=80), 80, 1.0
    )
    return decision, place.asked, asked(workers, branch, decision)


@pytest.mark.parametrize("engine", ["Keda", "Hpa"])
async def test_the_pilot_asks_nobody_for_the_workers_that_an_engine_is_to_get(engine):
    decision, asked_for, shown = await decided(engine, foreign=True)
    assert asked_for == []
    assert decision.replicas == shown == 10  # 80 events, 8 at once


async def test_what_an_engine_is_given_keeps_to_the_namespaces_total():
    decision, _, shown = await decided("Keda", foreign=True, total=4)
    assert decision.replicas == shown == 4
    assert decision.reason == "Total"


async def test_workers_of_nobody_are_left_alone_and_the_decision_can_be_read():
    decision, asked_for, shown = await decided("None", foreign=True)
    assert asked_for == []
    assert shown == 3
    assert decision.replicas == 10
    assert decision.sentence.startswith("left alone")


@pytest.mark.parametrize("engine", list(ScaleEngine))
async def test_where_there_are_no_engines_as_in_a_local_run_the_pilot_scales_all(engine):
    assert (await decided(engine, foreign=False))[1:] == ([("pack", 10)], 10)


@pytest.mark.parametrize(
    ("reason", "rests"), [("Window", False), ("Idle", True)], ids=["fewer would do", "settled"]
)
def test_a_branch_of_keda_does_not_rest_before_its_window_is_over(reason, rests):
    world = World()
    world.show(0, backlog=0)
    branch = world.reading.branches["pack"]
    branch = replace(branch, workers=Workers(4, 4, 4, foreign=True))
    branch = replace(branch, decision=replace(branch.decision, reason=reason))
    assert is_at_rest(replace(world.reading, branches={"pack": branch})) is rests


def test_a_decision_that_is_followed_late_stays_the_same():
    """An autoscaler takes its time: meanwhile the pilot is asked again and again, with the old number of workers."""
    limits = autoscale.ScaleLimits(max=32, scale_down_after_seconds=10, concurrency=1)
    state = autoscale.ScalerState()
    wanted = []
    moment = autoscale.ScalerInputs(
        now=0, published=0, settled=0, busy_seconds=0, backlog=0, current=8, ready=8
    )
    for second in range(60):
        decision = autoscale.decide(state, replace(moment, now=float(second)), limits)
        state = decision.state
        wanted.append(decision.replicas)
    assert wanted[0] == 8
    assert wanted[-1] == 0
    assert wanted == sorted(wanted, reverse=True)

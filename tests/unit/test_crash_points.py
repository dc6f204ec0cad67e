"""What `make crash-operator` leans on: deaths fall where they should, no write goes unnamed, no difference unseen."""

from __future__ import annotations

import copy
import json
import random

import pytest

from chaos.operator import kube_proxy, redis_proxy, state
from chaos.operator.__main__ import exit_code
from chaos.operator.fate import ANY, Fate, Point, Side, StruckError
from chaos.operator.points import Points
from headgate.streams.script import ENSURE, MEASURE

PIPELINE = {
    "resource": "fanoutpipelines",
    "metadata": {
        "name": "media",
        "namespace": "n-1",
        "uid": "u-1",
        "generation": 3,
        "resourceVersion": "7",
        "finalizers": ["headgate.dev/cleanup"],
        "managedFields": [
            {"manager": "headgate", "time": "2026-11-21T12:00:00Z", "fieldsV1": {"f:status": {}}}
        ],
    },
    "spec": {"paused": False},
    "status": {
        "observedGeneration": 3,
        "branches": [
            {"name": "a", "ageSeconds": 3, "backlog": 2, "reason": "2 workers: scale.min (0.3 a second)"}
        ],
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "message": "taken",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            }
        ],
    },
}
CHILD = {
    "resource": "deployments",
    "metadata": {"name": "media-a", "namespace": "n-1", "uid": "u-2", "ownerReferences": [{"uid": "u-1"}]},
    "spec": {"replicas": 2},
}


async def passes(fate: Fate, *writes: str) -> list[str]:
    done = []
    for write in writes:
        try:
            dies = fate.enter(write)
            done.append(write)  # here it is forwarded
            fate.leave(dies=dies)
        except StruckError:
            continue
    return done


@pytest.mark.parametrize(
    ("point", "done"),
    [
        (Point("a", 1, Side.BEFORE), []),
        (Point("a", 1, Side.AFTER), ["a"]),
        (Point("a", 2, Side.BEFORE), ["a", "b"]),
        (Point("a", 2, Side.AFTER), ["a", "b", "a"]),
        (Point(ANY, 2, Side.BEFORE), ["a"]),
        (Point("c", 1, Side.AFTER), ["a", "b", "a"]),
    ],
)
async def test_nothing_passes_once_the_point_is_met(point, done):
    fate = Fate()
    fate.renew(point)
    assert await passes(fate, "a", "b", "a") == done
    assert fate.struck.is_set() == (point.write != "c")
    await fate.still()


async def test_a_read_is_not_counted_and_does_not_pass_either_once_struck():
    fate = Fate()
    fate.renew(Point("a", 1, Side.BEFORE))
    assert fate.enter(None) is False
    fate.leave(dies=False)
    assert await passes(fate, "a") == []
    with pytest.raises(StruckError):
        fate.enter(None)


def test_every_write_is_struck_on_both_sides_and_what_recurs_twice():
    points = Points()
    points.add(0, {"a": 1, "b": 9, "PUT leases/x": 5})
    met = []
    while points.left:
        met.append(points.take(0))
    expected = [("PUT leases/x", 1), ("a", 1), ("b", 1), ("b", 2)]
    assert met == [Point(write, occurrence, side) for write, occurrence in expected for side in Side]


def test_a_point_that_is_never_met_is_told():
    points = Points()
    points.add(4, {"a": 1})
    while (point := points.take(4)) is not None:
        points.missed(4, point)
    assert {point for _, point in points.unmet} == {Point("a", 1, side) for side in Side}


@pytest.mark.parametrize(
    ("struck", "unmet", "code"), [(495, 5, 0), (480, 20, 0), (479, 21, 1), (44, 4, 0), (43, 5, 1), (0, 48, 1)]
)
def test_a_run_in_which_too_many_points_were_never_met_fails(struck, unmet, code):
    points = Points()
    points.struck, points.unmet = struck, [(0, Point("a", 1, Side.BEFORE))] * unmet
    assert exit_code({"differences": 0, "unmet": unmet, "mostUnmet": points.most_unmet}) == code
    assert exit_code({"differences": 1, "unmet": unmet, "mostUnmet": points.most_unmet}) == 1


def test_a_sample_has_points_of_every_change():
    points = Points()
    for change in range(3):
        points.add(change, {f"w{number}": 1 for number in range(20)})
    points.sample(random.Random("s"), 7)
    assert _taken(points) == {0: 3, 1: 2, 2: 2}


def _taken(points: Points) -> dict[int, int]:
    counts = dict.fromkeys(range(3), 0)
    for change in counts:
        while points.take(change) is not None:
            counts[change] += 1
    return counts


def test_writes_have_the_names_of_what_they_write_and_reads_have_none():
    path = "/apis/apps/v1/namespaces/n-1/deployments/media-a"
    assert kube_proxy.name_of("PATCH", path, "headgate", b"{}") == "PATCH deployments/media-a"
    assert kube_proxy.name_of("PATCH", path, "headgate-pilot", b"{}") == (
        "PATCH deployments/media-a by headgate-pilot"
    )
    event = json.dumps({"reason": "Ready"}).encode()
    assert (
        kube_proxy.name_of("POST", "/apis/events.k8s.io/v1/namespaces/n-1/events", "", event)
        == "POST event Ready"
    )
    key = b"hg:{n-1/media:1}:gate:a"
    assert redis_proxy.name_of("a", [b"SET", key, b"4:9"]) == "redis a: SET 1 gate:a"
    assert redis_proxy.name_of("a", [b"UNLINK", key, b"hg:{n-1/media:1}:high"]) == "redis a: UNLINK 1"
    assert redis_proxy.name_of("a", [b"GET", key]) is None
    assert (
        redis_proxy.name_of("b", [b"EVALSHA", ENSURE.sha.encode(), b"1", key])
        == "redis b: ensure.lua 1 gate:a"
    )
    assert redis_proxy.name_of("b", [b"EVALSHA", MEASURE.sha.encode(), b"1", key]) is None


def test_what_differs_legitimately_does_not_count():
    other = json.loads(json.dumps([PIPELINE, CHILD]).replace("n-1", "n-2").replace("u-1", "u-9"))
    other[0]["metadata"] |= {"resourceVersion": "99", "generation": 5}
    other[0]["metadata"]["managedFields"][0]["time"] = "2026-11-22T12:00:00Z"
    status = other[0]["status"]
    status["observedGeneration"] = 5
    status["branches"][0] |= {"ageSeconds": 9, "reason": "2 workers: scale.min (7.1 a second)"}
    status["conditions"][0] |= {"lastTransitionTime": "2026-11-22T12:00:00Z", "observedGeneration": 5}
    wanted = state.of_objects([PIPELINE, CHILD], "n-1", {})
    assert state.difference(wanted, state.of_objects(other, "n-2", {})) == ""


@pytest.mark.parametrize(
    "path",
    [
        ("metadata", "finalizers"),
        ("metadata", "managedFields", 0, "fieldsV1"),
        ("spec", "paused"),
        ("status", "observedGeneration"),
        ("status", "branches", 0, "backlog"),
        ("status", "conditions", 0, "status"),
        ("status", "conditions", 0, "message"),
    ],
)
def test_everything_else_does(path):
    other = copy.deepcopy(PIPELINE)
    holder = other
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = "other"
    wanted = state.of_objects([PIPELINE, CHILD], "n-1", {})
    assert state.difference(wanted, state.of_objects([other, CHILD], "n-1", {}))


def test_a_child_of_another_owner_or_one_too_many_is_a_difference():
    wanted = state.of_objects([PIPELINE, CHILD], "n-1", {})
    stray = copy.deepcopy(CHILD)
    stray["metadata"]["ownerReferences"] = [{"uid": "u-0"}]
    assert state.difference(wanted, state.of_objects([PIPELINE, stray], "n-1", {}))
    stray["metadata"]["name"] = "media-b"
    assert state.difference(wanted, state.of_objects([PIPELINE, CHILD, stray], "n-1", {}))

"""What a branch makes of its pods: what it may, and that nothing gets past."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate_operator.api import PodSpec
from headgate_operator.manifests import RedisSource, children
from headgate_operator.manifests.overlay import merge
from headgate_operator.manifests.pod_guard import PodRules, pod_refusals
from headgate_operator.manifests.pod_security import violations
from headgate_operator.problem import Problem
from unit.pipelines import pipeline
from unit.pods import ALLOWED, FORBIDDEN, WIRING

REDIS = RedisSource("redis-url", key="url", url="redis://elsewhere:6379", owned=False)
OWN = {"containers": ("worker",), "initContainers": ()}
CONTAINER = {"handler": {"container": {"image": "own:1"}}}


def template(pod: dict[str, Any], rules: PodRules | None = None, **branch: Any) -> dict[str, Any]:
    found = children(pipeline({"pod": pod, **branch}), REDIS, "pushing:1", rules).deployments
    (deployment,) = found.values()
    return deployment["spec"]["template"]


def spec(overlay: dict[str, Any], rules: PodRules | None = None, **branch: Any) -> dict[str, Any]:
    return template({"overlay": overlay}, rules, **branch)["spec"]


def refusal(pod: dict[str, Any], rules: PodRules | None = None, **branch: Any) -> str:
    with pytest.raises(Problem) as told:
        template(pod, rules, **branch)
    assert told.value.reason == "PodRefused"
    return told.value.message


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_harmless_is_in_the_pod_and_the_pod_conforms_to_the_standard(name: str) -> None:
    overlay = copy.deepcopy(ALLOWED[name])
    found = spec(overlay)
    assert violations(found) == []
    assert overlay == ALLOWED[name]
    assert _holds(found, overlay), found


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_gives_rights_on_the_node_is_refused_with_field_value_and_remedy(name: str) -> None:
    overlay, field, value = FORBIDDEN[name]
    message = refusal({"overlay": overlay})
    assert f"spec.branches[0].pod.overlay.{field}: Invalid value: {value}: " in message
    assert "worker.allowPrivileged" in message or "root" in message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_an_operator_that_is_told_to_lets_it_through(name: str) -> None:
    overlay, *_ = FORBIDDEN[name]
    found = spec(overlay, PodRules(privileged=True))
    assert _holds(found, overlay), found


@pytest.mark.parametrize("privileged", [False, True])
@pytest.mark.parametrize("name", WIRING)
def test_the_workers_own_wiring_is_nobodys_to_change(name: str, privileged: bool) -> None:
    overlay, field = WIRING[name]
    assert f"spec.branches[0].pod.overlay.{field}" in refusal({"overlay": overlay}, PodRules(privileged))


def test_a_volume_of_the_node_is_refused_among_the_branchs_volumes_too() -> None:
    pod = {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}
    assert "spec.branches[0].pod.volumes[0].hostPath: Invalid value" in refusal(pod)
    assert template(pod, PodRules(privileged=True))["spec"]["volumes"][0] == pod["volumes"][0]
    for privileged in (False, True):
        ours = {"volumes": [{"name": "headgate-tmp", "emptyDir": {}}]}
        assert "pod.volumes[0].name" in refusal(ours, PodRules(privileged))


def test_a_token_of_the_api_server_cannot_be_projected() -> None:
    for source in ("serviceAccountToken", "clusterTrustBundle", "podCertificate"):
        projected = {"name": "token", "projected": {"sources": [{source: {"path": "t"}}]}}
        assert f"projected.sources[0].{source}" in refusal({"volumes": [projected]})
        assert f"projected.sources[0].{source}" in refusal({"overlay": {"volumes": [projected]}})


def test_a_service_account_of_the_branchs_own_decides_itself_about_its_token() -> None:
    found = template({"serviceAccountName": "media-reader"})["spec"]
    assert found["serviceAccountName"] == "media-reader"
    assert "automountServiceAccountToken" not in found
    assert template({})["spec"]["automountServiceAccountToken"] is False


def test_the_operators_own_service_account_is_refused_whatever_is_allowed() -> None:
    for privileged in (False, True):
        rules = PodRules(privileged, ("shop", "headgate"))
        message = refusal({"serviceAccountName": "headgate"}, rules)
        assert 'spec.branches[0].pod.serviceAccountName: Invalid value: "headgate"' in message
    assert template({"serviceAccountName": "headgate"}, PodRules(operator_account=("system", "headgate")))


def test_labels_and_annotations_are_on_the_pods_and_never_take_the_operators_place() -> None:
    pod = {"labels": {"team": "video"}, "annotations": {"note": "x", "prometheus.io/scrape": "false"}}
    found = template(pod)["metadata"]
    assert found["labels"] == template({})["metadata"]["labels"] | {"team": "video"}
    assert found["annotations"]["note"] == "x"
    assert found["annotations"]["prometheus.io/scrape"] == "false"
    assert found["annotations"]["headgate.dev/redis-fingerprint"]
    for labels in ({"headgate.dev/branch": "x"}, {"app.kubernetes.io/name": "x"}):
        assert "pod.labels['" in refusal({"labels": labels})
    for others in (
        {"headgate.dev/redis-fingerprint": "x"},
        {"controller.kubernetes.io/pod-deletion-cost": "1"},
        {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"},
    ):
        assert "pod.annotations['" in refusal({"annotations": others})


def test_a_container_that_is_added_is_hardened_though_it_says_nothing_of_it() -> None:
    found = spec({"containers": [{"name": "log", "image": "log:1"}]})
    assert [each["name"] for each in found["containers"]] == ["worker", "log"]
    assert found["containers"][1]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_branchs_own_container_takes_a_user_and_keeps_the_rest() -> None:
    overlay = {"initContainers": [{"name": "handler", "securityContext": {"runAsUser": 1000}}]}
    (handler,) = spec(overlay, **CONTAINER)["initContainers"]
    assert handler["image"] == "own:1"
    assert handler["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsUser": 1000,
    }
    assert "initContainers[0].name" in refusal({"overlay": overlay})


def test_a_refusal_names_every_mistake_at_once_and_shows_no_more_of_a_value_than_it_takes() -> None:
    message = refusal({"overlay": {"hostNetwork": True, "hostPID": True, "x": "y" * 500}})
    assert len(message.splitlines()) == 3
    assert max(map(len, message.splitlines())) < 300


def _holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in what was found; items of lists by name where they have one."""
    if isinstance(wanted, dict):
        return all(name in found and _holds(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict) and "name" in wanted[0]:
        return all(
            any(_holds(each, item) for each in found if each["name"] == item["name"]) for item in wanted
        )
    return bool(found == wanted)


def _parts() -> st.SearchStrategy[dict[str, Any]]:
    """Overlays mixed from what is allowed and what is not, with odd values anywhere."""
    known = [*ALLOWED.values(), *(overlay for overlay, *_ in FORBIDDEN.values())]
    known += [overlay for overlay, _ in WIRING.values()]
    names = sorted({name for overlay in known for name in _names(overlay)})
    odd = st.sampled_from([None, True, False, 0, 1, -1, 1.0, "", "0", "ALL", [], {}, "Unconfined", "worker"])
    leaf = odd | st.sampled_from([value for overlay in known for value in _leaves(overlay)])
    tree = st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(names), inner, max_size=3)
        ),
        max_leaves=8,
    )
    loose = st.dictionaries(st.sampled_from(names), tree, max_size=3)
    mixed = st.lists(st.sampled_from(known), min_size=1, max_size=3).map(_mixed)
    # One place of a sound overlay, replaced by anything.
    bent = st.tuples(st.sampled_from(known), st.integers(0, 40), tree).map(lambda given: _bent(*given))
    sound = st.lists(st.sampled_from(list(ALLOWED.values())), min_size=1, max_size=4).map(_mixed)
    return loose | mixed | bent | sound | sound.map(_mirrored)


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_names(each) for each in value.values()))
    return set().union(*(_names(each) for each in value)) if isinstance(value, list) else set()


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for each in inner for leaf in _leaves(each)]
    return [value]


def _mixed(overlays: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in (pair for overlay in overlays for pair in copy.deepcopy(overlay).items()):
        both = result.get(name)
        if isinstance(both, list) and isinstance(value, list):
            result[name] = both + value
        elif isinstance(both, dict) and isinstance(value, dict):
            result[name] = both | value
        else:
            result[name] = value
    return result


def _mirrored(overlay: dict[str, Any]) -> dict[str, Any]:
    """What the sidecars have, as init containers, and the other way round."""
    swap = {"containers": "initContainers", "initContainers": "containers"}
    return {swap.get(name, name): value for name, value in overlay.items()}


def _bent(overlay: dict[str, Any], place: int, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(overlay)
    spots: list[tuple[Any, Any]] = []

    def walk(at: Any) -> None:
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            spots.append((at, key))
            walk(at[key])

    walk(result)
    holder, key = spots[place % len(spots)]
    holder[key] = value
    return result


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_parts())
def test_no_overlay_that_is_let_through_makes_a_pod_that_breaks_the_standard(overlay: dict[str, Any]) -> None:
    wrong = pod_refusals(PodSpec(overlay=overlay), "pod", OWN, privileged=False)
    plain = spec({})
    if wrong:
        assert all(str(each).startswith("pod.overlay") and each.remedy for each in wrong)
        return
    found = merge(plain, overlay)
    assert violations(found) == []
    _keeps_wiring(found, plain)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_parts())
def test_no_overlay_that_a_privileged_operator_lets_through_changes_the_wiring(
    overlay: dict[str, Any],
) -> None:
    if not pod_refusals(PodSpec(overlay=overlay), "pod", OWN, privileged=True):
        plain = spec({})
        _keeps_wiring(merge(plain, overlay, harden=False), plain)


def _keeps_wiring(found: dict[str, Any], plain: dict[str, Any]) -> None:
    """The worker's container is as it was, but for its security context; so are the account and the grace period."""
    worker, before = found["containers"][0], plain["containers"][0]
    for name in before.keys() - {"securityContext"}:
        assert worker[name] == before[name]
    for name in ("serviceAccountName", "terminationGracePeriodSeconds"):
        assert found[name] == plain[name]
    ours = {volume["name"]: volume for volume in plain["volumes"]}
    assert [volume for volume in found["volumes"] if volume["name"] in ours] == list(ours.values())

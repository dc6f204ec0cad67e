"""The NetworkPolicy of a pipeline: what is in it, and that nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_operator.manifests import RedisSource, children
from headgate_operator.manifests.network_policy import server_ports
from unit.pipelines import pipeline


def policies(url: str = "redis://:secret@store:6380", **spec: Any) -> list[dict[str, Any]]:
    redis = RedisSource("redis-url", key="url", url=url, owned=False)
    shared = children(pipeline(**spec), redis).shared
    return [item for item in shared if item["kind"] == "NetworkPolicy"]


def test_without_the_field_there_is_none() -> None:
    assert policies() == []


def test_workers_are_reached_by_scrapers_and_reach_names_their_server_and_what_is_listed() -> None:
    listed = [{"cidr": "203.0.113.0/24", "ports": [443, 8443]}, {"cidr": "2001:db8::/32"}]
    (found,) = policies(networkPolicy={"egress": listed})
    assert found["spec"] == {
        "podSelector": {"matchLabels": {"headgate.dev/pipeline": "orders"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 9100, "protocol": "TCP"}]}],
        "egress": [
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"ports": [{"port": 6380, "protocol": "TCP"}]},
            {
                "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
                "ports": [{"port": 443, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}],
            },
            {"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}]},
        ],
    }
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("rediss://store", [6379]),
        ("redis+cluster://a:7000,b:7001,c:7000", [7000, 7001]),
        ("redis+sentinel://a,b:26380/main", [6379, 26379, 26380]),
        ("unix:///run/redis.sock", []),
        ("nonsense", []),
    ],
)
def test_a_server_is_known_by_the_ports_of_its_url(url: str, ports: list[int]) -> None:
    assert server_ports(url) == ports
    (found,) = policies(url, networkPolicy={})
    assert len(found["spec"]["egress"]) == 1 + bool(ports)

"""The NetworkPolicy of a pipeline's workers: whom they may reach, and who reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.streams.url import read_url
from headgate_operator.manifests.containers import HTTP_PORT
from headgate_operator.manifests.names import metadata, network_policy_name, selector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate_operator.api import EgressSpec, NetworkPolicySpec
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.manifests.redis import RedisSource
    from headgate_operator.pipeline import Pipeline

DNS_PORT = 53
SERVER_PORT = 6379
"""What servers behind sentinels are expected to listen on: the URL has the sentinels' ports only."""


def network_policy(pipeline: Pipeline, spec: NetworkPolicySpec, redis: RedisSource) -> Manifest:
    """In: scrapers, to the metrics port. Out: DNS, the ports of the server's URL wherever it is, and what is listed.

    A policy knows addresses and no names, and what a name or a Service stands for changes: so a server is known by its
    ports only. A URL that cannot be read has none.
    """
    dns: list[Manifest] = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    egress: list[Manifest] = [{"ports": dns}]
    if ports := server_ports(redis.url):
        egress.append({"ports": _tcp(ports)})
    egress += [_listed(each) for each in spec.egress]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(pipeline, network_policy_name(pipeline.name)),
        "spec": {
            "podSelector": {"matchLabels": selector(pipeline.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": _tcp([HTTP_PORT])}],
            "egress": egress,
        },
    }


def server_ports(url: str) -> list[int]:
    """The TCP ports at which a server is reached, in order; none for a socket's path, or for what is no URL."""
    try:
        target = read_url(url)
    except ValueError:
        return []
    ports = {port for _, port in target.hosts}
    return sorted(ports | ({SERVER_PORT} if target.service is not None else set()))


def _listed(egress: EgressSpec) -> Manifest:
    rule: Manifest = {"to": [{"ipBlock": {"cidr": egress.cidr}}]}
    return rule | ({"ports": _tcp(egress.ports)} if egress.ports else {})


def _tcp(ports: Iterable[int]) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in ports]

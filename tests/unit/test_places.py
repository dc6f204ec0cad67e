"""What branches need of this machine: keys that only this user reads, and the URLs that stand in for their targets."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from headgate.handlers.addresses import LOOPBACK, PRIVATE_NETWORKS
from headgate_cli.exits import CommandError
from headgate_cli.manifests import load_all
from headgate_cli.places import named_in_a_cluster, places
from headgate_operator.contracts import Place
from unit.pipelines import manifest

if TYPE_CHECKING:
    from headgate_cli.manifests import Manifest

SIGNED = {"http": {"url": "https://hooks.example", "signingSecretRef": {"name": "hooks", "key": "new"}}}
SERVICE = {"http": {"url": "http://stock.shop.svc:8080/events?of=shop", "allowNetworks": ["10.1.0.0/16"]}}
CONTAINER = {"container": {"image": "resize:1", "path": "/in"}}
SECRET = {
    "kind": "Secret",
    "metadata": {"name": "hooks"},
    "stringData": {"new": "whsec_x", "old": "whsec_y"},
}


def written(folder: Path, **handlers: dict[str, Any]) -> tuple[Manifest, ...]:
    """Pipelines of these names in the namespace shop, each with the branch `pack` and a handler."""
    documents = [SECRET]
    for name, handler in handlers.items():
        document = manifest({"handler": handler})
        document["metadata"]["name"] = name
        documents.append(document)
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return load_all(file)


def test_keys_are_this_users_alone_and_go_with_the_run(tmp_path: Path):
    found = written(tmp_path, orders=SIGNED, returns=SIGNED)
    assert "whsec_" not in repr(found)
    with places(found, {}, {}) as given:
        for pipeline in ("shop/orders", "shop/returns"):
            keys = Path(given[pipeline, "pack"].signing_keys_file)
            assert keys.read_text() == "whsec_x"
            assert stat.S_IMODE(keys.stat().st_mode) == 0o600
            assert stat.S_IMODE(keys.parent.stat().st_mode) == 0o700
    assert not keys.exists()


def test_a_service_on_this_machine_keeps_the_path_of_the_manifest_and_may_be_private(tmp_path: Path):
    found = written(tmp_path, orders=SERVICE)
    for url, target in {
        "http://127.0.0.1:1": "http://127.0.0.1:1/events?of=shop",
        "http://127.0.0.1:1/": "http://127.0.0.1:1/",
        "http://127.0.0.1:1?a": "http://127.0.0.1:1?a",
    }.items():
        with places(found, {}, {"pack": url}) as given:
            place = given["shop/orders", "pack"]
            assert place == Place(url=target, networks=(*LOOPBACK, *PRIVATE_NETWORKS))
        http = found[0].pipeline.contract("pack", place).http
        assert http is not None
        assert (http.url, http.allow_networks) == (target, ("10.1.0.0/16", *LOOPBACK, *PRIVATE_NETWORKS))


def test_a_branch_is_named_with_its_pipeline_where_several_have_one_of_its_name(tmp_path: Path):
    found = written(tmp_path, orders=SERVICE, returns=SERVICE, sizes=CONTAINER)
    containers = {"pack": "http://127.0.0.1:9"}  # the only one with a container
    with places(found, containers, {"returns/pack": "http://127.0.0.1:1/x"}) as given:
        assert given["shop/orders", "pack"].url == ""
        assert given["shop/returns", "pack"].url == "http://127.0.0.1:1/x"
        assert given["shop/sizes", "pack"].url == "http://127.0.0.1:9/in"
    with pytest.raises(
        CommandError, match=r"--service pack: is in several pipelines: give orders/pack or returns/pack"
    ):
        places(found, containers, {"pack": "http://127.0.0.1:1"}).__enter__()
    with pytest.raises(CommandError, match=r"sizes: spec\.branches\[0\].*--container sizes/pack=http"):
        places(found, {}, {}).__enter__()


def test_a_service_that_only_a_cluster_knows_by_name_is_told_with_its_remedy(tmp_path: Path):
    hosts = {
        "a": "stock",
        "b": "stock.shop.svc:81",
        "c": "hooks.example",
        "d": "localhost:1",
        "e": "[::1]:80",
    }
    services = {name: {"http": {"url": f"http://{host}/in"}} for name, host in hosts.items()}
    found = written(tmp_path, **services, given=SERVICE)
    with places(found, {}, {"given/pack": "http://127.0.0.1:1"}) as given:
        said = named_in_a_cluster(found, given)
    assert said == [
        f"branch {branch}: {name} is a service's name in a cluster: start that on this machine and say where it"
        f" listens: --service {branch}=http://127.0.0.1:{port}"
        for branch, name, port in (("a/pack", "stock", 8080), ("b/pack", "stock.shop.svc", 81))
    ]

"""Blocks of commands in the documentation that open with `bash tested on a cluster` do what they are there for.

They run as a user's do, from the checkout, in the namespace `default`; what they leave there goes afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from documentation import ROOT, commands_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.kube import Cluster

BLOCKS = commands_of("bash tested on a cluster")
LEFT = "fanoutpipelines,deployments,services,persistentvolumeclaims,cronjobs,jobs"


@pytest.fixture
def default_namespace(operator: Cluster) -> Iterator[Cluster]:
    operator.namespaces.append("default")
    yield operator
    operator.namespaces.remove("default")
    operator.kubectl("-n", "default", "delete", "fanoutpipelines", "--all", "--timeout=60s")
    operator.kubectl(
        "-n", "default", "delete", LEFT, "--all", "--field-selector=metadata.name!=kubernetes", check=False
    )
    operator.kubectl("delete", "persistentvolumes", "--all", "--wait=false")


def test_the_documentation_has_commands_for_a_cluster() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("commands", BLOCKS)
def test_documented_commands_succeed_on_a_cluster(
    commands: str, default_namespace: Cluster, redis_url: str
) -> None:
    cluster = default_namespace
    environment = os.environ | {
        "PATH": os.pathsep.join(
            (str(Path(sys.executable).parent), str(cluster.programs), os.environ["PATH"])
        ),
        "KUBECONFIG": str(cluster.kubeconfig),
        "HEADGATE_REDIS_URL": redis_url,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

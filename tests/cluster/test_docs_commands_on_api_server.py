"""Blocks of commands in the documentation that open with `bash tested on an API server` succeed on one.

They run as a user's do, in a folder with `videos.yaml`, whose pipeline is there. No operator is: what they ask of it is
tried where it is, and here that the API server takes what they say.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from documentation import commands_of
from headgate_operator.api import API_VERSION, KIND

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.apiserver import ApiServer

BLOCKS = commands_of("bash tested on an API server")
VIDEOS = f"""apiVersion: {API_VERSION}
kind: {KIND}
metadata: {{name: videos}}
spec:
  branches:
  - name: work
    handler: {{python: {{image: "videos:1", function: "videos:work"}}}}
"""


@pytest.fixture
def folder(api_server: ApiServer, tmp_path: Path) -> Path:
    """With the manifest, which is applied, and a kubeconfig that leads to a namespace of the test's own."""
    namespace, kubeconfig = f"commands-{uuid.uuid4().hex[:8]}", tmp_path / "kubeconfig"
    assert api_server.kubectl("create", "namespace", namespace).returncode == 0
    kubeconfig.write_text(api_server.kubeconfig.read_text())
    here = ("config", "set-context", "--current", f"--namespace={namespace}", f"--kubeconfig={kubeconfig}")
    assert api_server.kubectl(*here).returncode == 0
    (tmp_path / "videos.yaml").write_text(VIDEOS)
    assert api_server.kubectl("apply", "-n", namespace, "-f", str(tmp_path / "videos.yaml")).returncode == 0
    return tmp_path


def test_the_documentation_has_commands_for_an_api_server() -> None:
    assert BLOCKS


@pytest.mark.parametrize("commands", BLOCKS)
def test_documented_commands_succeed_on_an_api_server(
    commands: str, api_server: ApiServer, folder: Path
) -> None:
    environment = os.environ | {
        "PATH": os.pathsep.join((str(api_server.programs), os.environ["PATH"])),
        "KUBECONFIG": str(folder / "kubeconfig"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

"""The cluster of hack/cluster, by kubectl and helm. No other: the tests delete what they find."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "headgate-system"
_OURS = re.compile(r"(kind-)?headgate(-[a-z0-9-]+)?")
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")

Manifest = dict[str, Any]
T = TypeVar("T")


class ForeignClusterError(Exception):
    """The kubeconfig's context is not one of a test cluster."""


class CommandError(Exception):
    """A command failed; says which, and what it printed."""


@dataclass
class Cluster:
    """One cluster; `context` is checked once, and given to every command."""

    kubeconfig: Path
    programs: Path
    context: str = ""
    namespaces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = guarded_context(self.kubeconfig)

    def kubectl(
        self,
        *arguments: str,
        given: Manifest | Sequence[Manifest] | str | None = None,
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `given` is its standard input. Raises CommandError when it fails and `check` is set."""
        if given is not None and not isinstance(given, str):
            given = yaml.safe_dump_all([given] if isinstance(given, dict) else list(given))
        command = [
            str(self.programs / "kubectl"),
            "--kubeconfig",
            str(self.kubeconfig),
            "--context",
            self.context,
        ]
        return _run([*command, *arguments], given=given, check=check, seconds=seconds)

    def helm(self, *arguments: str, seconds: float = 180) -> str:
        """Runs helm; raises CommandError when it fails."""
        command = [
            str(self.programs / "helm"),
            "--kubeconfig",
            str(self.kubeconfig),
            "--kube-context",
            self.context,
        ]
        return _run([*command, *arguments], given=None, check=True, seconds=seconds).stdout

    def apply(self, *manifests: Manifest) -> None:
        """Applies objects."""
        self.kubectl("apply", "-f", "-", given=manifests)

    def get(self, namespace: str, what: str, *options: str) -> Manifest:
        """One object (`kind/name`) or a list of them (`kind`)."""
        found: Manifest = json.loads(
            self.kubectl("-n", namespace, "get", what, "-o", "json", *options).stdout
        )
        return found

    def items(self, namespace: str, kind: str, *options: str) -> list[Manifest]:
        """The objects of a kind; leaves out what `options` (such as `-l`) do not choose."""
        items: list[Manifest] = self.get(namespace, kind, *options)["items"]
        return items

    def exists(self, namespace: str, what: str) -> bool:
        """Whether an object (`kind/name`) is there."""
        return bool(
            self.kubectl("-n", namespace, "get", what, "--ignore-not-found", "-o", "name").stdout.strip()
        )

    def wait(self, namespace: str, what: str, condition: str, seconds: int = 60) -> None:
        """Waits for a condition, as `kubectl wait --for` words it."""
        self.kubectl(
            "-n", namespace, "wait", what, f"--for={condition}", f"--timeout={seconds}s", seconds=seconds + 10
        )

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace for as long as the block lasts; pipelines go first, while there is an operator to let them go."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.namespaces.append(name)
        try:
            yield name
        finally:
            self.kubectl(
                "-n",
                name,
                "delete",
                "fanoutpipelines",
                "--all",
                "--timeout=60s",
                "--ignore-not-found",
                check=False,
            )
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)
            self.namespaces.remove(name)

    @contextlib.contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """An address on this machine, `127.0.0.1:N`, that leads to a port of a pod or Service."""
        command = [
            str(self.programs / "kubectl"),
            "--kubeconfig",
            str(self.kubeconfig),
            "--context",
            self.context,
        ]
        command += ["-n", namespace, "port-forward", target, f":{port}"]
        # Into a file: it prints a line a connection, and would stand still once a pipe is full.
        with (
            tempfile.TemporaryFile("w+") as printed,
            subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT) as process,
        ):

            def opened() -> re.Match[str] | None:
                ended = process.poll() is not None
                said = os.pread(printed.fileno(), 4096, 0).decode()
                if ended:
                    raise CommandError(f"port-forward to {namespace}/{target}: {said}")
                return _FORWARDED.search(said)

            try:
                found = wait_until(f"port-forward to {namespace}/{target}", opened, 30, every=0.05)
                yield f"127.0.0.1:{found[1]}"
            finally:
                process.terminate()

    def diagnosis(self) -> Iterator[tuple[str, str]]:
        """What helps to understand a failure: titles and texts."""
        for namespace in self.namespaces:
            for title, arguments in (
                ("objects", ("get", "fanoutpipelines,deployments,pods", "-o", "wide")),
                ("status", ("get", "fanoutpipelines", "-o", "jsonpath={.items[*].status}")),
                ("events", ("get", "events", "--sort-by=.lastTimestamp")),
                (
                    "workers",
                    ("logs", "-l", "app.kubernetes.io/name=headgate-worker", "--prefix", "--tail=15"),
                ),
            ):
                shown = self.kubectl("-n", namespace, *arguments, check=False)
                yield f"{namespace}: {title}", (shown.stdout + shown.stderr)[-6000:]
        logs = self.kubectl(
            "-n", OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/component=operator", "--prefix", "--tail=60",
            check=False,
        )  # fmt: skip
        yield "operator", logs.stdout + logs.stderr


def guarded_context(kubeconfig: Path) -> str:
    """The kubeconfig's current context, if it is a test cluster's by name; else raises ForeignClusterError."""
    context = yaml.safe_load(kubeconfig.read_text(encoding="utf-8")).get("current-context") or ""
    if not _OURS.fullmatch(context):
        raise ForeignClusterError(
            f"{kubeconfig}: current-context {context!r} is not a test cluster's, and tests delete what they find;"
            " name it headgate or headgate-… (kubectl config rename-context) if they may"
        )
    return context


def start_cluster() -> Cluster:
    """The running cluster, started if need be, with our images on its node."""
    kubeconfig = _run([str(ROOT / "hack/cluster/up")], seconds=2400).stdout.splitlines()[-1]
    programs = _run([str(ROOT / "hack/cluster/programs"), "kubectl", "helm"], seconds=60).stdout.strip()
    cluster = Cluster(Path(kubeconfig), Path(programs))
    _run([str(ROOT / "hack/image")], seconds=900)
    return cluster


def cluster_runs() -> bool:
    """Whether the cluster of hack/cluster runs already."""
    home = os.environ.get("HEADGATE_KUBECONFIG") or str(Path.home() / ".cache/headgate/cluster/kubeconfig")
    if not Path(home).exists():
        return False
    programs = _run([str(ROOT / "hack/cluster/programs"), "kubectl"], seconds=2400).stdout.strip()
    probe = [f"{programs}/kubectl", "--kubeconfig", home, "get", "--raw", "/readyz", "--request-timeout=3s"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def image_inputs(image: str) -> str:
    """A digest of what an image of hack/image was built from."""
    return hashlib.sha256((Path.home() / ".cache/headgate/images" / image).read_bytes()).hexdigest()[:16]


def stop_cluster() -> None:
    """Stops the cluster; one that was given stays."""
    _run([str(ROOT / "hack/cluster/down")], seconds=180)


def wait_until(what: str, probe: Callable[[], T], seconds: float, every: float = 0.25) -> T:
    """The first true value of `probe`; fails with `what` and its last value when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}; last seen: {value!r}"
        time.sleep(every)


def condition(pipeline: Mapping[str, Any], name: str) -> str:
    """Status of one condition of an object, empty when it has none."""
    conditions = pipeline.get("status", {}).get("conditions", [])
    return next((str(found["status"]) for found in conditions if found["type"] == name), "")


def _run(
    command: Sequence[str], *, given: str | None = None, check: bool = True, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if check and done.returncode != 0:
        raise CommandError(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done

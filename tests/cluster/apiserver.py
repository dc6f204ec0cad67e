"""A Kubernetes API server alone, with its etcd: no kubelet, no controllers. Up in seconds, on ports of its own.

For what only a real API server can answer: whether it takes a CRD, how it words a refusal, what a second apply changes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from headgate_operator.crd import crd

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60
_CALL_SECONDS = 300  # a delete waits for finalisers, which nobody may take off


class ApiServer:
    """Runs from `start` to `stop`; everything it writes stays in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> ApiServer:
        """Starts it and returns when it is ready; raises RuntimeError with the end of its log when it is not."""
        programs = Path(_run([str(_ROOT / "hack/cluster/programs"), "kube-apiserver", "kubectl"]).strip())
        etcd = shutil.which("etcd")
        if etcd is None:
            raise RuntimeError("etcd is not on PATH; on Debian: apt-get install etcd-server")
        self.programs = programs
        self._kubectl = programs / "kubectl"
        client, peer, secure = _free_ports(3)
        self._spawn(
            etcd,
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        key, token = self.directory / "sa.key", secrets.token_hex(16)
        _run(["openssl", "genrsa", "-out", str(key), "2048"])
        tokens = self.directory / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f"{token},admin,admin,system:masters\n")
        self._spawn(
            str(programs / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--cert-dir={self.directory}/pki",
            f"--secure-port={secure}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--token-auth-file={tokens}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",  # what a namespace admits is for its labels to say
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
        )
        self._write_kubeconfig(secure, token)
        self._await_ready()
        return self

    def stop(self) -> None:
        """Stops it."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def kubectl(self, *arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
        """Runs kubectl on it; `given` goes in as JSON. The caller looks at the exit status."""
        return subprocess.run(
            [str(self._kubectl), *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory)},
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_SECONDS,
        )

    def await_explained(self, resource: str) -> None:
        """Returns when discovery and OpenAPI know the resource, a moment after its CRD is established."""
        deadline = time.monotonic() + _START_SECONDS
        while self.kubectl("explain", resource).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the API server does not know {resource} after {_START_SECONDS} s")
            time.sleep(0.2)

    def serve_pipelines(self) -> None:
        """Makes it serve FanoutPipelines; raises RuntimeError when it does not in time."""
        definition = crd()
        deadline = time.monotonic() + _START_SECONDS
        # On a busy machine the API server refuses a request or two although it says that it is ready.
        while (
            self.kubectl("apply", "-f", "-", given=definition).returncode != 0
            or self.kubectl(
                "wait", "--for=condition=Established", f"crd/{definition['metadata']['name']}"
            ).returncode
            != 0
        ):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the API server does not serve FanoutPipelines after {_START_SECONDS} s")
            time.sleep(0.2)

    def _spawn(self, *command: str) -> None:
        with (self.directory / f"{Path(command[0]).name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )

    def _write_kubeconfig(self, port: int, token: str) -> None:
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority": f"{self.directory}/pki/apiserver.crt",
        }
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "alone", "cluster": cluster}],
                    "users": [{"name": "admin", "user": {"token": token}}],
                    "contexts": [{"name": "alone", "context": {"cluster": "alone", "user": "admin"}}],
                    "current-context": "alone",
                }
            )
        )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.kubectl("get", "--raw", "/readyz").returncode == 0:
                return
            if any(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.2)
        tail = (self.directory / "kube-apiserver.log").read_text()[-2000:]
        self.stop()
        raise RuntimeError(
            f"the API server is not ready after {_START_SECONDS} s; the end of its log:\n{tail}"
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout

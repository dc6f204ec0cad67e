"""The video example on a cluster: its volume, a pod that makes uploads and checks what came of them, its pipeline."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import yaml

from cluster.installation import IN_CLUSTER_URL
from cluster.kube import ROOT, Cluster, Manifest
from headgate.event import NewEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = ROOT / "examples/video-processing"
IMAGE = "headgate/video-processing:dev"
NAME = "video-processing"
BRANCHES = ("thumbnail", "transcode", "metadata")

_MAKE_UPLOADS = """
import sys, msgspec, videos
encode = msgspec.json.Encoder().encode
for upload in videos.uploads(int(sys.argv[1])):
    print(encode(upload).decode())
"""
_MAKE_LONG_UPLOAD = """
import sys, dataclasses, msgspec, videos
videos.PATTERNS = tuple(dataclasses.replace(one, seconds=int(sys.argv[1])) for one in videos.PATTERNS)
for upload in videos.uploads(1):
    print(msgspec.json.encode(upload).decode())
"""


@dataclass(frozen=True)
class VideoExample:
    """The example in one namespace; `pod` is the name of the pod at its media."""

    cluster: Cluster
    namespace: str
    pod: str = "media"

    def manifest(self) -> Manifest:
        """The example's own manifest, in this namespace."""
        manifest: Manifest = yaml.safe_load((EXAMPLE / "pipeline.yaml").read_text(encoding="utf-8"))
        manifest["metadata"]["namespace"] = self.namespace
        return manifest

    def apply(self, manifest: Manifest | None = None) -> None:
        """Applies the pipeline and returns when it is Ready."""
        self.cluster.apply(manifest or self.manifest())
        self.cluster.wait(self.namespace, f"fanoutpipeline/{NAME}", "condition=Ready", 60)

    def scaled(self, **scales: dict[str, int]) -> Manifest:
        """The manifest with some of a branch's `scale` fields changed, by branch."""
        manifest = self.manifest()
        for branch in manifest["spec"]["branches"]:
            branch["scale"] |= scales.get(branch["name"], {})
        return manifest

    def read(self) -> Manifest:
        """The pipeline as it is now."""
        return self.cluster.get(self.namespace, f"fanoutpipeline/{NAME}")

    def replicas(self) -> dict[str, int]:
        """Replicas asked for, by branch."""
        found = self.cluster.items(self.namespace, "deployments", "-l", f"headgate.dev/pipeline={NAME}")
        return {
            item["metadata"]["labels"]["headgate.dev/branch"]: item["spec"].get("replicas", 1)
            for item in found
        }

    def uploads(self, count: int) -> list[NewEvent]:
        """Makes this many real videos and gives their events, not published yet."""
        return self._events(_MAKE_UPLOADS, count)

    def long_upload(self, seconds: int) -> NewEvent:
        """A video that lasts so long."""
        (event,) = self._events(_MAKE_LONG_UPLOAD, seconds)
        return event

    def check(self) -> str:
        """The example's own check of all records against the files; gives what it printed, its verdict last."""
        arguments = ("--redis-url", IN_CLUSTER_URL, "--namespace", self.namespace, "--media", "/media")
        script = (EXAMPLE / "check.py").read_text(encoding="utf-8")
        done = self._exec("python", "-", *arguments, given=script, check=False)
        return (done or "").strip()

    def _events(self, script: str, argument: int) -> list[NewEvent]:
        printed = self._exec("python", "-c", script, str(argument))
        return [msgspec.convert(json.loads(line), NewEvent) for line in printed.splitlines()]

    def _exec(self, *command: str, given: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl(
            "-n",
            self.namespace,
            "exec",
            "-i",
            self.pod,
            "--",
            *command,
            given=given or "",
            check=check,
            seconds=240,
        ).stdout


@contextlib.contextmanager
def video_example(cluster: Cluster, namespace: str) -> Iterator[VideoExample]:
    """The example's volume and media pod in a namespace; removed, media too, when the block ends."""
    name = f"headgate-media-{namespace}"
    volume, claim = _volume(name, namespace)
    cluster.apply(volume)
    try:
        # A claim that is seen before its volume is looked at again only 15 seconds later.
        cluster.wait(namespace, f"persistentvolume/{name}", "jsonpath={.status.phase}=Available")
        cluster.apply(claim)
        cluster.wait(namespace, "persistentvolumeclaim/media", "jsonpath={.status.phase}=Bound")
        cluster.apply(_media_pod(namespace))
        cluster.wait(namespace, "pod/media", "condition=Ready")
        yield VideoExample(cluster, namespace)
    finally:
        clear = "rm -rf /media/* /media/.[!.]*"
        cluster.kubectl("-n", namespace, "exec", "media", "--", "sh", "-c", clear, check=False)
        cluster.kubectl("-n", namespace, "delete", "pod/media", "--grace-period=0", "--force", check=False)
        cluster.kubectl("delete", "persistentvolume", name, "--wait=false", check=False)


def _volume(name: str, namespace: str) -> tuple[Manifest, Manifest]:
    """The volume and the claim of the example's media-volume.yaml, for a namespace of its own."""
    volume, claim = yaml.safe_load_all((EXAMPLE / "media-volume.yaml").read_text(encoding="utf-8"))
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = name
    volume["spec"]["hostPath"]["path"] = f"/tmp/headgate-media/{namespace}"  # noqa: S108 - the node's
    volume["spec"]["claimRef"]["namespace"] = claim["metadata"]["namespace"] = namespace
    return volume, claim


def _media_pod(namespace: str) -> Manifest:
    """Root, since a hostPath belongs to root: lets the workers' user write, then waits to be asked."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "media", "namespace": namespace},
        "spec": {
            "securityContext": {"runAsUser": 0},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": "media",
                    "image": IMAGE,
                    "command": [
                        "sh",
                        "-c",
                        "umask 0; chmod 0777 /media && touch /tmp/ready && exec sleep infinity",
                    ],
                    "readinessProbe": {
                        "exec": {"command": ["test", "-f", "/tmp/ready"]},  # noqa: S108 - the pod's
                        "periodSeconds": 1,
                        "timeoutSeconds": 5,
                    },
                    "env": [{"name": "HEADGATE_MEDIA", "value": "/media"}],
                    "volumeMounts": [{"name": "media", "mountPath": "/media"}],
                }
            ],
            "volumes": [{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}],
        },
    }

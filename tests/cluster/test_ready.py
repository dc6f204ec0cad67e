"""helm install, then kubectl apply: the pipeline is Ready, and says so in its status."""

from __future__ import annotations

from cluster.kube import condition


def test_an_applied_pipeline_gets_ready(video):
    video.apply()
    found = video.read()
    assert condition(found, "Ready") == "True"
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert {branch["name"] for branch in found["status"]["branches"]} == {
        "thumbnail",
        "transcode",
        "metadata",
    }


def test_workers_run_without_rights(video):
    video.apply()
    for deployment in video.cluster.items(video.namespace, "deployments"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        (worker,) = pod["containers"]
        assert worker["securityContext"]["readOnlyRootFilesystem"] is True
        assert worker["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True

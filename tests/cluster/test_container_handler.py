"""An image without an SDK handles events as a container beside the worker, and outlives the worker's drain."""

from __future__ import annotations

import pytest

from cluster.kube import Cluster, Manifest, wait_until
from cluster.streams import Streams
from headgate.event import NewEvent
from headgate.streams import PipelineKeys

NAME = "own"
EVENTS = 30
# Perl's smallest: one request at a time, on localhost only. It answers with the body in upper case, after a while.
SHOUT = """
use IO::Socket::INET;
$SIG{TERM} = sub { exit 0 };
my $server = IO::Socket::INET->new(Listen => 16, LocalAddr => "127.0.0.1:3000", ReuseAddr => 1) or die $!;
while (1) {
  my $client = $server->accept or next;
  my $line = <$client>;
  next unless defined $line;
  my %header;
  while (defined($line = <$client>)) {
    $line =~ s/\\r?\\n//;
    last if $line eq "";
    my ($name, $value) = split /:\\s*/, $line, 2;
    $header{lc $name} = $value;
  }
  read($client, my $body, $header{"content-length"} || 0);
  select undef, undef, undef, $ENV{SECONDS} || 0;
  my $answer = uc $body;
  print $client "HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\nconnection: close\\r\\n"
    . "content-length: " . length($answer) . "\\r\\n\\r\\n$answer";
  close $client;
}
"""


@pytest.fixture
def streams(redis_url: str, namespace: str) -> Streams:
    return Streams(redis_url, PipelineKeys(namespace, NAME), ("shout",))


def test_an_image_without_an_sdk_handles_events_beside_the_worker(
    operator: Cluster, namespace: str, streams: Streams
):
    operator.apply(_pipeline(namespace, "0"))
    operator.wait(namespace, f"fanoutpipeline/{NAME}", "condition=Ready")
    streams.publish([NewEvent(data={"word": f"w{n}"}) for n in range(EVENTS)])
    wait_until("all records", lambda: streams.measure().joined == EVENTS, 60)
    results = sorted(record.results["shout"]["WORD"] for record in streams.records())
    assert results == sorted(f"W{n}" for n in range(EVENTS))


def test_the_container_outlives_the_drain_of_its_worker(operator: Cluster, namespace: str, streams: Streams):
    operator.apply(_pipeline(namespace, "0.5", min=1, max=1))
    operator.wait(namespace, f"fanoutpipeline/{NAME}", "condition=Ready")
    streams.publish([NewEvent(data={"word": f"w{n}"}) for n in range(EVENTS)])
    wait_until("the first records", lambda: streams.measure().joined >= 2, 60)
    (pod,) = operator.items(namespace, "pods", "-l", f"headgate.dev/pipeline={NAME}")
    operator.kubectl("-n", namespace, "delete", "pod", pod["metadata"]["name"], "--timeout=60s")
    wait_until("all records", lambda: streams.measure().joined == EVENTS, 90)
    branch = streams.measure().branches["shout"]
    assert (branch.done, branch.dead, branch.retried) == (EVENTS, 0, 0), (
        "no push met a container that was gone"
    )


def _pipeline(namespace: str, seconds: str, **scale: int) -> Manifest:
    container = {
        "image": "headgate/valkey:dev",  # for its Perl; there is no Headgate in it
        "command": ["perl", "-e", SHOUT],
        "port": 3000,
        "path": "/events",
    }
    branch = {
        "name": "shout",
        "handler": {"container": container},
        "concurrency": 2,
        "scale": scale,
        "pod": {"env": [{"name": "SECONDS", "value": seconds}]},
    }
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"branches": [branch], "join": {"branches": ["shout"]}},
    }

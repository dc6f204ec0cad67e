from __future__ import annotations

from collections import Counter

import pytest

from headgate.streams import Ensured, Server
from headgate_operator import topology
from headgate_operator.problem import Problem
from headgate_operator.reconcile import reconcile
from headgate_operator.servers import Servers
from unit.pipelines import manifest, pipeline


class Place:
    """A substrate that only counts; its first pass writes."""

    def __init__(self, failure=None):
        self.failure = failure
        self.applied = 0

    async def apply(self, _pipeline):
        if self.failure is not None:
            raise self.failure
        self.applied += 1
        return 2 if self.applied == 1 else 0


async def connected(_pipeline):
    return Server.connect("redis://127.0.0.1:1")


async def unset(_pipeline):
    raise Problem("NoRedis", "set spec.redis.secretRef")


async def test_a_server_that_is_away_does_not_keep_workers_from_being_applied():
    place = Place()
    findings = await reconcile(manifest(), substrate=place, connect=connected)
    assert findings.redis.reason == "ServerUnavailable"
    assert findings.workers is None
    assert place.applied == 1
    assert not findings.clean


async def test_workers_that_cannot_be_applied_do_not_keep_groups_from_being_made(monkeypatch):
    made = Counter()

    async def ensure_groups(_server, keys, branches, *_settings):
        made[str(keys), *(branch.name for branch in branches)] += 1
        return Ensured(changes=1)

    monkeypatch.setattr(topology, "ensure_groups", ensure_groups)
    findings = await reconcile(manifest(), substrate=Place(RuntimeError("boom")), connect=connected)
    assert made == {("shop/orders", "pack"): 1}
    assert findings.redis is None
    assert findings.workers.reason == "ApplyFailed"
    assert "boom" in findings.workers.message
    assert findings.writes == 1


async def test_what_is_wrong_with_the_spec_is_found_and_nothing_is_done():
    place = Place()
    findings = await reconcile(manifest({"concurrency": 0}), substrate=place, connect=connected)
    assert findings.spec.reason == "Invalid"
    assert "concurrency" in findings.spec.message
    assert place.applied == 0


async def test_a_pipeline_without_a_server_says_so():
    findings = await reconcile(manifest(), substrate=Place(), connect=unset)
    assert findings.redis.reason == "NoRedis"


async def test_an_error_without_words_is_told_by_its_name(monkeypatch):
    async def hang(*_args):
        raise TimeoutError

    monkeypatch.setattr(topology, "ensure_groups", hang)
    findings = await reconcile(manifest(), substrate=Place(KeyError()), connect=connected)
    assert "does not answer: timed out;" in findings.redis.message
    assert findings.workers.message.endswith("KeyError()")


async def test_removal_gives_up_on_a_server_that_is_gone(monkeypatch):
    monkeypatch.setattr(topology, "REMOVE_SECONDS", 0.5)
    with pytest.raises(Problem) as raised:
        await topology.remove(Server.connect("redis://127.0.0.1:1"), pipeline())
    assert raised.value.reason == "ServerUnavailable"


class Connection:
    def __init__(self, url):
        self.url = url
        self.closed = False

    async def aclose(self):
        self.closed = True


async def test_pipelines_on_one_url_share_a_connection_until_the_last_leaves():
    servers = Servers(Connection)
    orders, returns = pipeline(), pipeline()
    object.__setattr__(returns, "name", "returns")
    shared = await servers.assign(orders, "redis://a")
    assert await servers.assign(returns, "redis://a") is shared
    moved = await servers.assign(orders, "redis://b")
    assert servers.of(orders) is moved
    assert isinstance(shared, Connection)
    assert not shared.closed
    await servers.release("shop", "returns")
    assert shared.closed

"""Where keys live on a Redis Cluster, and that scripts are held to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from headgate import count, emit, put, split
from headgate.contract import JoinContract, Ordering
from headgate.event import Lane, NewEvent
from headgate.relay import Relay
from headgate.streams import Gate, PipelineKeys, Server, retire, set_gate, sweep
from headgate.streams.outcome import Kind, Outcome
from headgate.streams.script import ALL
from headgate.worker.composer import Composer
from streams.desk import dead, desk, done, retried, take

if TYPE_CHECKING:
    from headgate.streams.keys import PartitionKeys

MASTERS = 3
JOIN = JoinContract(branches=("a", "b"))


def every_key(partition: PartitionKeys) -> list[str]:
    of_branches = [
        name(branch)
        for name in (
            partition.retry,
            partition.delayed,
            partition.dead,
            partition.gate,
            partition.beats,
            partition.closed,
            partition.owner,
            partition.blocked,
            partition.rate,
        )
        for branch in ("a", "other-branch")
    ]
    of_ids = [name(each) for name in (partition.dedupe, partition.join) for each in ("", "i", "{odd}", "a:b")]
    return [
        *partition.lanes,
        *of_branches,
        *of_ids,
        partition.stats,
        partition.joins,
        partition.joined,
        partition.settings,
        partition.rejection,
        partition.timed_out,
        partition.counts,
        partition.values,
        partition.outbox,
        partition.relaying,
        partition.relayed,
        *(partition.parked("a", key) for key in ("", "k", "{odd}")),
    ]


@pytest.mark.parametrize("number", [0, 1, 9, 10, 63])
def test_every_key_of_a_partition_has_one_slot(number: int) -> None:
    partition = PipelineKeys("namespace", "pipeline", 64).partition(number)
    assert len({key_slot(name.encode()) for name in every_key(partition)}) == 1


def test_no_two_keys_of_a_pipeline_are_the_same() -> None:
    keys = PipelineKeys("namespace", "pipeline", 12)
    names = [name for partition in keys.all for name in every_key(partition)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("pipeline", ["canal", "videos", "a", "a-very-long-name-of-a-pipeline", "p7"])
def test_four_partitions_spread_over_three_masters(pipeline: str) -> None:
    keys = PipelineKeys("default", pipeline, 4)
    slots = [key_slot(partition.stats.encode()) for partition in keys.all]
    assert len({slot * MASTERS // 16384 for slot in slots}) == MASTERS


def test_every_script_has_the_shebang_that_lets_the_server_check_its_keys() -> None:
    assert len(ALL) >= 8
    for script in ALL:
        assert script.text.startswith(("#!lua\n", "#!lua flags=")), script.name
        assert "--@include" not in script.text, script.name


def test_only_publishing_is_refused_by_a_full_server() -> None:
    refused = {script.name for script in ALL if "flags=" not in script.text.split("\n")[0]}
    assert refused == {"publish.lua", "deliver.lua"}


async def test_everything_that_is_ever_written_lies_on_its_partitions_slot(cluster_url: str) -> None:
    server = Server.connect(cluster_url)
    async with desk(server, ("a", "b"), partitions=4, join=JOIN) as canal:
        await canal.publish(
            *(NewEvent(data=n, id=f"e{n}", key=f"k{n % 8}", lane=list(Lane)[n % 3]) for n in range(60))
        )
        await set_gate(server, canal.keys, "b", Gate(frozenset({Lane.LOW})), 60)
        for partition in range(4):
            consumer = await canal.consumer("w1.x", partition=partition)
            deliveries = await take(consumer)
            kinds = (done, retried, dead)
            await consumer.settle([kinds[place % 3](each) for place, each in enumerate(deliveries[1:])])
            effects = [count("n"), put("k", 1), emit(NewEvent(data=1)), split([NewEvent(data=2)])]
            effects += [emit(NewEvent(data=1, key=f"k{n}")) for n in range(8)]
            await consumer.settle([Composer(canal.contract()).done(deliveries[0], effects)])
            await consumer.beat(10)
            ordered = await canal.consumer("w2.x", "b", partition, ordering=Ordering.KEY)
            keyed = [each for each in await take(ordered) if each.event.key]
            await ordered.settle([retried(keyed[0]), *(Outcome(each, Kind.PARK) for each in keyed[1:])])
        await Relay(server, canal.keys).run()
        await sweep(server, canal.keys, JOIN)
        await retire(server, canal.keys, "a", "w1")
        slots = {partition.number: key_slot(partition.stats.encode()) for partition in canal.keys.all}
        written = await canal.snapshot()
        for name in written:
            number = int(name.split(b":")[2].rstrip(b"}"))
            assert key_slot(name) == slots[number], name
    await server.aclose()
    assert len(written) > 60


async def test_a_script_that_leaves_its_slot_is_refused(cluster_url: str) -> None:
    server = Server.connect(cluster_url)
    here, elsewhere = PipelineKeys("test", "canal", 2).all
    crossing = "#!lua\nredis.call('SET', KEYS[1], 1) return redis.call('SET', ARGV[1], 1)"
    with pytest.raises(ResponseError, match=r"undeclared|same slot|own slot|non local|cross"):
        await server.execute(here.stats, "EVAL", crossing, 1, here.stats, elsewhere.stats)
    await server.aclose()


def test_keys_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PipelineKeys("a", "b").partitions = 2  # type: ignore[misc]

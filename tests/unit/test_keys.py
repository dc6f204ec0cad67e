"""Partitions and the names of keys."""

from __future__ import annotations

import zlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Lane
from headgate.streams import PipelineKeys
from headgate.streams.keys import jump

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)


@given(st.text(), st.integers(1, 64))
def test_every_key_has_a_partition_and_always_the_same(key: str, partitions: int) -> None:
    keys = PipelineKeys("n", "p", partitions)
    assert 0 <= keys.partition_of(key) < partitions
    assert keys.partition_of(key) == PipelineKeys("other", "q", partitions).partition_of(key)


def test_the_partition_of_a_key_is_the_jump_hash_of_its_crc_32_as_every_language_has_them() -> None:
    # The check value of CRC-32/ISO-HDLC, and values of jump hash that its ports to other languages are tested with.
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert PipelineKeys("n", "p", 64).partition_of("123456789") == jump(0xCBF43926, 64)
    assert [jump(1, 1), jump(42, 57), jump(0xDEAD10CC, 1), jump(0xDEAD10CC, 666)] == [0, 43, 0, 361]
    assert jump(256, 1024) == 520


@given(st.text(), st.integers(1, 63), st.integers(1, 63))
def test_when_partitions_are_added_a_key_stays_or_goes_to_a_new_one(key: str, before: int, more: int) -> None:
    old, new = PipelineKeys("n", "p", before), PipelineKeys("n", "p", before + more)
    assert new.partition_of(key) == old.partition_of(key) or new.partition_of(key) >= before


@given(st.text(), st.integers(1, 64))
def test_where_a_key_ever_belonged_is_what_fewer_partitions_gave(key: str, partitions: int) -> None:
    keys = PipelineKeys("n", "p", partitions)
    earlier = [keys.with_partitions(count).partition_of(key) for count in range(1, partitions + 1)]
    assert keys.homes_of(key) == sorted(set(earlier))


def test_keys_spread_evenly_over_any_number_of_partitions() -> None:
    for partitions in (2, 3, 7, 64):
        keys = PipelineKeys("n", "p", partitions)
        counts = Counter(keys.partition_of(f"user-{n}") for n in range(1000 * partitions))
        assert min(counts.values()) > 850
        assert max(counts.values()) < 1150


@given(names, names, names, names)
def test_no_two_pipelines_share_a_key(namespace: str, pipeline: str, namespace2: str, pipeline2: str) -> None:
    one, two = (
        PipelineKeys(namespace, pipeline).partition(0),
        PipelineKeys(namespace2, pipeline2).partition(0),
    )
    assert (one.tag == two.tag) == ((namespace, pipeline) == (namespace2, pipeline2))


def test_names_are_what_the_documentation_says() -> None:
    partition = PipelineKeys("shop", "orders", 4).partition(3)
    assert partition.lanes == tuple(f"hg:{{shop/orders:3}}:{lane}" for lane in ("high", "normal", "low"))
    assert partition.lanes == tuple(partition.lane(lane) for lane in Lane)
    assert partition.retry("a") == "hg:{shop/orders:3}:retry:a"
    assert partition.delayed("a") == "hg:{shop/orders:3}:delayed:a"
    assert partition.dead("a") == "hg:{shop/orders:3}:dead:a"
    assert partition.joined == "hg:{shop/orders:3}:joined"
    assert str(PipelineKeys("shop", "orders")) == "shop/orders"

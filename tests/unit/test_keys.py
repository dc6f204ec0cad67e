"""Partitions and the names of keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.event import Lane
from headgate.streams import PipelineKeys

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)


@given(st.text(), st.integers(1, 64))
def test_every_key_has_a_partition_and_always_the_same(key: str, partitions: int) -> None:
    keys = PipelineKeys("n", "p", partitions)
    assert 0 <= keys.partition_of(key) < partitions
    assert keys.partition_of(key) == PipelineKeys("other", "q", partitions).partition_of(key)


def test_the_partition_of_a_key_is_its_crc_32_as_every_language_has_it() -> None:
    # The check value of CRC-32/ISO-HDLC.
    assert PipelineKeys("n", "p", 64).partition_of("123456789") == 0xCBF43926 % 64
    assert PipelineKeys("n", "p", 7).partition_of("123456789") == 0xCBF43926 % 7


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

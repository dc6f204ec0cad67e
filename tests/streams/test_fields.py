"""fields.lua: what Python packs, Lua unpacks, whatever the bytes."""

from __future__ import annotations

import contextlib
from importlib import resources
from typing import TYPE_CHECKING

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.event import Event, Lane
from headgate.streams.outcome import Delivery, pack_fields

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = resources.files("headgate.streams").joinpath("scripts", "fields.lua").read_text()
UNPACK = f"#!lua\n{SOURCE}\nreturn unpack_fields(ARGV[1])"
text = st.text()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        Event,
        id=text,
        body=st.binary(),
        type=text,
        source=text,
        key=st.none() | text,
        lane=st.sampled_from(Lane),
        published_ms=st.integers(0, 2**53),
    ),
    st.integers(1, 1000),
    st.lists(st.binary(), max_size=6),
)
def test_every_field_comes_out_as_it_went_in(
    start_server: Callable[[str], str], event: Event, attempt: int, extra: list[bytes]
) -> None:
    packed = pack_fields(Delivery(event, 2, b"1-0", "w.x", 0.0), attempt, extra)
    with contextlib.closing(redis.Redis.from_url(start_server("valkey"))) as client:
        fields = client.eval(UNPACK, 0, packed)
    found = dict(zip(fields[:14:2], fields[1:14:2], strict=True))
    assert found[b"data"] == event.body
    assert found[b"id"] == event.id.encode()
    assert found[b"attempt"] == b"%d" % attempt
    assert fields[14 : 14 + len(extra)] == extra
    assert fields[14 + len(extra) :] == ([] if event.key is None else [b"key", event.key.encode()])

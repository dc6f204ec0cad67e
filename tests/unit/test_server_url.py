"""URLs of servers: what each says, and what is wrong with those that say nothing."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headgate.streams import Server
from headgate.streams.url import read_url, redact


def test_one_server() -> None:
    read = read_url("redis://user:p%40ss@redis.test:6380/3")
    assert (read.hosts, read.username, read.password, read.db) == (
        (("redis.test", 6380),),
        "user",
        "p@ss",
        3,
    )
    assert not read.is_tls
    assert not read.is_cluster
    assert read.service is None
    assert read_url("redis://localhost").hosts == (("localhost", 6379),)
    assert read_url("redis://[::1]:7000").hosts == (("::1", 7000),)


def test_tls_options_keep_their_types() -> None:
    read = read_url("rediss://h?ssl_ca_certs=/ca.crt&ssl_check_hostname=false&ssl_certfile=/c&ssl_keyfile=/k")
    assert read.is_tls
    assert read.tls_options == {
        "ssl_ca_certs": "/ca.crt",
        "ssl_check_hostname": False,
        "ssl_certfile": "/c",
        "ssl_keyfile": "/k",
    }


def test_sentinels_and_the_masters_name() -> None:
    read = read_url("rediss+sentinel://u:p@s1,s2:27000/the%20master/2?sentinel_password=x&ssl_ca_certs=/ca")
    assert read.hosts == (("s1", 26379), ("s2", 27000))
    assert (read.service, read.db, read.is_tls) == ("the master", 2, True)
    assert read.sentinel_login == {"password": "x"}
    assert read.options == {"ssl_ca_certs": "/ca"}


def test_a_cluster_by_some_of_its_nodes() -> None:
    read = read_url("redis+cluster://:p@n1:7000,n2")
    assert read.is_cluster
    assert read.hosts == (("n1", 7000), ("n2", 6379))
    assert (read.username, read.password) == (None, "p")


def test_a_unix_socket() -> None:
    read = read_url("unix://user:p@/run/redis.sock?db=1")
    assert (read.path, read.hosts, read.password, read.db) == ("/run/redis.sock", (), "p", 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "scheme 'http' is not one of redis"),
        ("redis+sentinel://h:26379", "names no master"),
        ("redis://a,b", "several hosts need redis\\+cluster"),
        ("redis+cluster://h:7000/1", "a cluster has database 0 only"),
        ("redis://h:port", "its host is no host:port; percent-encode"),
        ("redis://h?socket_timeout=soon", "socket_timeout"),
    ],
)
def test_what_is_no_url_of_a_server_says_why(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Server.connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@h",
        "redis://user:secret@h:1/2?sentinel_password=secret",
        "redis+sentinel://u:secret@a,b/m?sentinel_username=x&sentinel_password=secret",
        "unix://u:secret@/run/redis.sock",
    ],
)
def test_no_password_is_ever_shown(url: str) -> None:
    assert "secret" not in redact(url)
    assert "***" in redact(url)


def test_a_slash_in_a_password_is_told_how_to_write() -> None:
    with pytest.raises(ValueError, match="%2F") as refused:
        read_url("redis+sentinel://:/secret@h")
    assert "secret" not in str(refused.value)
    assert read_url("redis+sentinel://:%2Fsecret@h/main").password == "/secret"  # noqa: S105  # made up


def test_a_url_without_a_password_is_shown_without_its_options() -> None:
    assert redact("redis://user@h:1/2") == "redis://user@h:1/2"
    assert redact("rediss://h?ssl_ca_certs=/ca") == "rediss://h"


@given(
    scheme=st.sampled_from(
        ("redis", "rediss", "redis+cluster", "redis+sentinel", "unix", "http", "redsi", "")
    ),
    colon=st.sampled_from(("://", ":/", "//", ":", "")),
    user=st.sampled_from(("", "user", "us er", "u@")),
    odd=st.tuples(*[st.sampled_from(("", "/", "?", "#", "@", "[", ":", "%", "\u2100", " ", "a"))] * 2),
    host=st.sampled_from(
        ("@h", "@h:1", "@h:port", "@[::1", "@a,b", "h", "", "@h/main/0", "@h?password=S3CRET")
    ),
)
def test_whatever_is_wrong_with_a_url_its_password_is_not_shown(
    scheme: str, colon: str, user: str, odd: tuple[str, str], host: str
) -> None:
    # An @ and a word after it are a host to everybody.
    assume("@" in host or odd[0] != "@")
    url = f"{scheme}{colon}{user}:{odd[0]}S3CRET{odd[1]}{host}"
    told = redact(url)
    try:
        told += str(read_url(url)) + repr(read_url(url))
    except ValueError as error:
        told += str(error)
    assert "S3CRET" not in told

"""A pipeline's login: what its Secret keeps, its URL, and the steps from one password to the next."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.streams.url import read_url
from headgate_operator.logins import Login, following, fresh_password
from headgate_operator.manifests import RedisSource, children
from unit.pipelines import pipeline

HELD = Login("headgate.shop.orders", "old")


@pytest.mark.parametrize(
    "server",
    [
        "redis://store",
        "rediss://:operators@store:6380/3?ssl_ca_certs=/tls/ca.crt",
        "redis://admin:operators@store/0?username=admin&password=operators",
        "redis+cluster://admin:operators@a:7000,b:7001",
        "redis+sentinel://admin:operators@s1:1,s2:2/main/0?sentinel_password=theirs",
        "unix://admin:operators@/run/redis.sock?db=2",
    ],
)
@given(password=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1))
def test_the_url_has_the_pipelines_login_in_the_place_of_the_operators(server: str, password: str) -> None:
    before, after = read_url(server), read_url(Login("headgate.shop.orders", password).url(server))
    assert (after.username, after.password) == ("headgate.shop.orders", password)
    for name in ("is_cluster", "service", "hosts", "path", "is_tls", "db", "options", "sentinel_login"):
        assert getattr(after, name) == getattr(before, name)
    assert "operators" not in after.text.replace(password, "")


def test_what_the_secret_keeps_is_read_back() -> None:
    login = Login("headgate.shop.orders", fresh_password(), "before", "tuesday")
    source = RedisSource.default(pipeline(), "redis://admin:operators@store").of(login)
    (secret,) = [item for item in children(pipeline(), source).shared if item["kind"] == "Secret"]
    assert Login.read(secret, "headgate.shop.orders") == login
    assert Login.read(secret, "headgate.shop.other") is None
    assert b"operators" not in b"".join(base64.b64decode(value) for value in secret["data"].values())
    for secrets in (source.login, source):
        assert login.password not in repr(secrets)
        assert "before" not in repr(secrets)


@pytest.mark.parametrize("data", [None, {}, {"password": "!"}, {"username": base64.b64encode(b"x").decode()}])
def test_a_secret_that_keeps_no_login_gives_none(data: dict[str, str] | None) -> None:
    assert Login.read({"data": data}, "x") is None


def test_a_password_is_replaced_in_two_steps_and_both_work_between_them() -> None:
    first = following(HELD, "tuesday", moved=False, fresh="new")
    assert first.passwords == ("new", "old")
    assert following(first, "tuesday", moved=False, fresh="x") == first
    last = following(first, "tuesday", moved=True, fresh="x")
    assert last == Login("headgate.shop.orders", "new", rotation="tuesday")
    assert following(last, "tuesday", moved=False, fresh="x") == last


def test_a_rotation_that_is_asked_for_during_another_waits_for_its_end() -> None:
    first = following(HELD, "tuesday", moved=False, fresh="new")
    assert following(first, "friday", moved=False, fresh="newer") == first
    between = following(first, "friday", moved=True, fresh="newer")
    assert between.passwords == ("new",)
    assert following(between, "friday", moved=True, fresh="newer").passwords == ("newer", "new")


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.booleans())))
def test_a_password_in_use_never_stops_working_in_the_step_in_which_it_is_replaced(
    steps: list[tuple[str, bool]],
) -> None:
    login = HELD
    for number, (rotation, moved) in enumerate(steps):
        after = following(login, rotation, moved=moved, fresh=f"p{number}")
        assert login.password in after.passwords
        login = after


def test_workers_restart_when_the_password_changes() -> None:
    server = RedisSource.default(pipeline(), "redis://store")
    marks = {server.of(Login("u", password)).fingerprint("u-1") for password in ("a", "b", "a")}
    assert len(marks) == 2
    assert server.of(HELD).fingerprint("u-1") != server.of(HELD).fingerprint("u-2")

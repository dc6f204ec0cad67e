"""Signatures, as a receiver's own library verifies them."""

from __future__ import annotations

import base64
import os
import secrets
import time
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from headgate.handlers.webhooks import SigningKeys, SigningKeysError

if TYPE_CHECKING:
    from pathlib import Path

BODY = '{"a": 1, "ü": "☂"}'.encode()


def new_key(size: int = 32) -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(size)).decode()


def a_key(size: int = 32) -> str:
    """The same in every process, as names of tests must be."""
    return "whsec_" + base64.b64encode(bytes(range(1, size + 1))).decode()


def headers(keys: SigningKeys, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    now = int(time.time() if at is None else at)
    return {
        "webhook-id": "n/p/b/0/1",
        "webhook-timestamp": str(now),
        "webhook-signature": keys.sign("n/p/b/0/1", now, body),
    }


def test_a_receiver_verifies_what_was_signed_and_refuses_what_was_changed(tmp_path: Path) -> None:
    key, file = new_key(), tmp_path / "keys"
    file.write_text(f"{key}\n")
    signed = headers(SigningKeys(str(file)))
    assert Webhook(key).verify(BODY, signed) == {"a": 1, "ü": "☂"}
    for spoilt in (
        signed | {"webhook-id": "n/p/b/0/2"},
        signed | {"webhook-timestamp": str(int(time.time()) + 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(BODY, spoilt)
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(BODY + b" ", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_key()).verify(BODY, signed)


def test_while_keys_are_rotated_either_is_enough(tmp_path: Path) -> None:
    new, old, file = new_key(24), new_key(64), tmp_path / "keys"
    file.write_text(f"{new} {old}")
    signed = headers(SigningKeys(str(file)))
    assert signed["webhook-signature"].count("v1,") == 2
    assert Webhook(new).verify(BODY, signed)
    assert Webhook(old).verify(BODY, signed)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    old, new, file = new_key(), new_key(), tmp_path / "keys"
    file.write_text(old)
    keys = SigningKeys(str(file))
    assert Webhook(old).verify(BODY, headers(keys))
    # As the kubelet does it: another file in its place.
    (tmp_path / "next").write_text(new)
    (tmp_path / "next").replace(file)
    signed = headers(keys)
    assert Webhook(new).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(BODY, signed)


@pytest.mark.parametrize("change", ["removed", "spoilt"])
def test_a_file_that_became_unusable_leaves_the_keys_of_before(tmp_path: Path, change: str) -> None:
    key, file = new_key(), tmp_path / "keys"
    file.write_text(key)
    keys = SigningKeys(str(file))
    if change == "removed":
        file.unlink()
    else:
        file.write_text("not a key at all")
        os.utime(file, ns=(1, 1))
    assert Webhook(key).verify(BODY, headers(keys))
    other = new_key()
    file.write_text(other)
    assert Webhook(other).verify(BODY, headers(keys))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds 0 keys"),
        (" ".join(a_key() for _ in range(3)), "holds 3 keys"),
        ("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "key 1 does not begin with whsec_"),
        (f"{a_key()} whsec_§", "key 2: what follows whsec_ is no base64"),
        (a_key(23), "key 1 has 23 bytes"),
        (a_key(65), "key 1 has 65 bytes"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_without_usable_keys_is_refused_and_no_key_is_told(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SigningKeysError) as refused:
        SigningKeys(str(file))
    assert why in str(refused.value)
    assert str(file) in str(refused.value)
    if isinstance(text, str):
        assert not any(
            word.removeprefix("whsec_")[:20] in str(refused.value) for word in text.split() if len(word) > 20
        )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SigningKeysError, match=r"nowhere.*No such file"):
        SigningKeys(str(tmp_path / "nowhere"))

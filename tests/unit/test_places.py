"""Signing keys of a local run lie in files that only this user reads, for as long as the run lasts."""

from __future__ import annotations

import stat
from pathlib import Path

import yaml

from headgate_cli.manifests import load
from headgate_cli.places import places
from unit.pipelines import manifest

HTTP = {"http": {"url": "https://hooks.example", "signingSecretRef": {"name": "hooks", "key": "new"}}}


def test_keys_are_this_users_alone_and_go_with_the_run(tmp_path: Path):
    secret = {
        "kind": "Secret",
        "metadata": {"name": "hooks"},
        "stringData": {"new": "whsec_x", "old": "whsec_y"},
    }
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump_all([manifest({"handler": HTTP}), secret]))
    found = load(file)
    assert "whsec_" not in repr(found)
    with places(found, {}) as given:
        keys = Path(given["pack"].signing_keys_file)
        assert keys.read_text() == "whsec_x"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600
        assert stat.S_IMODE(keys.parent.stat().st_mode) == 0o700
    assert not keys.exists()

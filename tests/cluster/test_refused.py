"""A pipeline with ten mistakes is refused by the installed API and by the command line in the same words."""

from __future__ import annotations

import subprocess
import sys

from cluster.kube import ROOT

TEN_MISTAKES = ROOT / "tests/data/manifests/ten-mistakes.yaml"


def test_ten_mistakes_are_refused_in_the_same_words(operator):
    refused = operator.kubectl(
        "create", "--validate=ignore", "-f", "-",
        given=TEN_MISTAKES.read_text(encoding="utf-8"), check=False,
    )  # fmt: skip
    mistakes = [line.removeprefix("* ") for line in refused.stderr.splitlines()[1:]]
    assert len(mistakes) >= 10
    for verb in ("validate", "run"):
        said = _headgate(verb, str(TEN_MISTAKES))
        assert [mistake for mistake in mistakes if mistake not in said] == []


def _headgate(*arguments: str) -> str:
    command = [sys.executable, "-m", "headgate_cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr

"""`headgate run` of a pipeline whose records are for another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import redis

NOOP = Path(__file__).parents[1] / "data" / "noop"
OUTPUT = "join:\n    output: {pipeline: catalogue}\n"


def run(folder: Path, text: str, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "handlers.py").write_text((NOOP / "handlers.py").read_text())
    (folder / "pipeline.yaml").write_text(text)
    command = (sys.executable, "-P", "-m", "headgate_cli.main", "run", "pipeline.yaml", "--redis-url", url)
    return subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=90, check=False
    )


def test_records_for_a_pipeline_that_is_not_here_wait_for_it_and_do_not_hold_the_run(
    tmp_path: Path, valkey_url: str
):
    text = (NOOP / "pipeline.yaml").read_text()
    emitting = text.replace("join:\n", OUTPUT)
    done = run(tmp_path, emitting, valkey_url, "--publish", "5", "--until-settled")
    assert done.returncode == 0, done.stderr
    assert "pipeline catalogue is not on this server: records for it wait in the outbox" in done.stdout
    with redis.Redis.from_url(valkey_url) as client:
        assert client.xlen("hg:{default/noop:0}:outbox") == 5
    there = text.replace("name: noop", "name: catalogue")
    assert run(tmp_path, there, valkey_url, "--publish", "1", "--until-settled").returncode == 0
    done = run(tmp_path, emitting, valkey_url, "--publish", "1", "--until-settled")
    assert done.returncode == 0, done.stderr
    with redis.Redis.from_url(valkey_url) as client:
        assert client.xlen("hg:{default/noop:0}:outbox") == 0
        published = sum(
            client.xinfo_stream(f"hg:{{default/catalogue:0}}:{lane}")["entries-added"]
            for lane in ("high", "normal", "low")
        )
    assert published == 1 + 6

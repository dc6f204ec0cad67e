"""`headgate run` as people and programs use it: real processes, real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOOP = Path(__file__).parents[1] / "data" / "noop"
HEADGATE = (sys.executable, "-P", "-m", "headgate_cli.main")


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """`manifest(old=new, ...)` is the no-op pipeline with pieces of its text replaced, beside its handlers."""

    def write(replacements: dict[str, str] | None = None) -> Path:
        text = (NOOP / "pipeline.yaml").read_text()
        for old, new in (replacements or {}).items():
            assert old in text
            text = text.replace(old, new)
        folder = tmp_path / "manifest"
        folder.mkdir(exist_ok=True)
        (folder / "handlers.py").write_text((NOOP / "handlers.py").read_text())
        (folder / "pipeline.yaml").write_text(text)
        return folder / "pipeline.yaml"

    return write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(*arguments)` starts the command in an empty folder; what still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*HEADGATE, *arguments], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], seconds: float = 90) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the objects it printed, and what it said on standard error."""
    out, error = process.communicate(timeout=seconds)
    return process.returncode, [json.loads(line) for line in out.splitlines()], error


def objects(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def workers_of(pid: int) -> list[int]:
    """Processes that a run started, and that still are there."""
    return [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if (text := _read(stat)) and int(text.rpartition(")")[2].split()[1]) == pid
    ]


def alive(pid: int) -> bool:
    text = _read(Path(f"/proc/{pid}/stat"))
    return bool(text) and text.rpartition(")")[2].split()[0] != "Z"


def eventually(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_everything_is_settled_once_in_every_branch_and_joined(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]], server_url: str
):
    arguments = ("--publish", "30", "--until-settled", "--json", "--redis-url", server_url)
    code, said, error = finish(
        start("run", manifest({"spec:\n": "spec:\n  source: {partitions: 3}\n"}), *arguments)
    )
    assert code == 0, error
    summary = said[-1]["summary"]
    assert summary.pop("seconds") > 0
    assert summary == {
        "published": 30,
        "settled": {"fast": 30, "slow": 30},
        "deadLettered": 0,
        "joined": 30,
        "partial": 0,
    }
    for each in said[:-1]:
        assert each["pipeline"] == "default/noop"
        assert [branch["name"] for branch in each["branches"]] == ["fast", "slow"]
        for branch in each["branches"]:
            assert branch.keys() == {
                "name",
                "backlog",
                "ageSeconds",
                "settledPerSecond",
                "replicas",
                "reason",
                "because",
                "gate",
                "deadLetters",
            }
            assert branch["because"].startswith(f"{branch['replicas']} worker")
    assert max(each["branches"][1]["replicas"] for each in said[:-1]) == 3
    code, records, error = finish(start("records", "-p", "noop", "--redis-url", server_url))
    assert code == 0, error
    assert sorted(record["results"]["slow"] for record in records) == [2 * n for n in range(30)]
    assert all(record["complete"] for record in records)


def test_without_a_url_it_brings_a_server_of_its_own_and_plain_lines(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
):
    process = start("run", manifest(), "--publish", "5", "--until-settled")
    out, error = process.communicate(timeout=90)
    assert process.returncode == 0, error
    assert "5 published; settled: fast 5, slow 5; 5 joined, 0 dead-lettered" in out.splitlines()[-1]


def test_dead_letters_end_with_3_and_their_reason(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]], valkey_url: str
):
    file = manifest({"handlers:events": "handlers:poisoned"})
    arguments = ("--publish", "5", "--until-settled", "--json", "--redis-url", valkey_url)
    code, said, error = finish(start("run", file, *arguments))
    assert code == 3
    assert "branch fast: dead-lettered 1 events; the first, n0:" in error
    assert "data.poison" in error
    assert said[-1]["summary"]["deadLettered"] == 1
    assert (said[-1]["summary"]["joined"], said[-1]["summary"]["partial"]) == (4, 1)
    assert said[-1]["summary"]["settled"] == {"fast": 5, "slow": 5}
    code, letters, _ = finish(start("dead-letters", "-p", "noop", "-b", "fast", "--redis-url", valkey_url))
    assert (code, [letter["id"] for letter in letters]) == (0, ["n0"])


def test_what_does_not_settle_in_time_ends_with_4_and_what_is_left(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
):
    file = manifest({"handlers:events": "handlers:lasting"})
    arguments = ("--publish", "2", "--until-settled", "--json", "--timeout", "15")
    code, _, error = finish(start("run", file, *arguments), seconds=60)
    assert code == 4
    assert "not settled within 15 s: branch slow: 2 events, 2 joins (logs: /" in error


def test_a_handler_that_cannot_be_loaded_ends_with_5_and_its_name(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
):
    file = manifest({"handlers:fast": "handlers:fats"})
    code, _, error = finish(start("run", file, "--publish", "2", "--until-settled", "--json"))
    assert code == 5
    assert "handlers:fats" in error.splitlines()[-1]


def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]], valkey_url: str
):
    file = manifest({"handlers:events": "handlers:deadly"})
    arguments = ("--publish", "20", "--until-settled", "--json", "--redis-url", valkey_url)
    code, said, error = finish(start("run", file, *arguments))
    assert code == 0, error
    assert "worker ended by itself" in error
    assert said[-1]["summary"]["settled"] == {"fast": 20, "slow": 20}
    assert said[-1]["summary"]["joined"] == 20


def test_a_branch_goes_to_zero_and_the_first_event_wakes_it(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]], valkey_url: str
):
    run = start("run", manifest(), "--publish", "2", "--json", "--redis-url", valkey_url)
    worked = False
    for each in objects(run):
        replicas = [branch["replicas"] for branch in each["branches"]]
        worked = worked or max(replicas) > 0
        if worked and replicas == [0, 0]:
            break
    eventually(lambda: not workers_of(run.pid), "the workers did not end")
    said = start("publish", "-p", "noop", "--data", '{"n": 7}', "--redis-url", valkey_url)
    assert said.stdout is not None
    assert json.loads(said.stdout.readline())["duplicate"] is False
    eventually(lambda: bool(workers_of(run.pid)), "no worker was started")
    with redis.Redis.from_url(valkey_url) as client:
        eventually(lambda: int(client.xlen("hg:{default/noop:0}:joined")) == 3, "the event was not joined")
    run.send_signal(signal.SIGINT)
    code, _, error = finish(run)
    assert code == 0, error


def test_ctrl_c_drains_what_runs_and_hands_back_the_rest(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]], valkey_url: str
):
    run = start("run", manifest(), "--publish", "1000", "--rate", "20", "--json", "--redis-url", valkey_url)
    for each in objects(run):
        if each["branches"][1]["settledPerSecond"] > 1:
            break
    workers = workers_of(run.pid)
    run.send_signal(signal.SIGINT)
    code, said, error = finish(run)
    assert code == 0, error
    assert "draining" in error
    assert said[-1]["summary"]["settled"]["slow"] > 0
    assert not any(alive(pid) for pid in workers)
    with redis.Redis.from_url(valkey_url) as client:
        # Without a lease, whatever a worker still holds is anybody's at once.
        assert client.zcard("hg:{default/noop:0}:beats:slow") == 0


def test_nothing_outlives_a_run_that_is_killed(
    manifest: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
):
    run = start("run", manifest(), "--publish", "1000", "--rate", "5", "--json")
    for each in objects(run):
        if each["branches"][1]["settledPerSecond"] > 0:
            break
    started = workers_of(run.pid)
    names = [_read(Path(f"/proc/{pid}/cmdline")) for pid in started]
    assert any("worker" in name for name in names)
    assert any("valkey-server" in name or "redis-server" in name for name in names)
    (data,) = {
        Path(f"/proc/{pid}/cwd").resolve() for pid in started if "-server" in _read(Path(f"/proc/{pid}/comm"))
    }
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in started), "something outlived the run", 5)
    eventually(lambda: not data.exists(), f"{data} outlived the run", 5)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

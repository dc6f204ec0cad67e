"""`headgate run` with handlers that are no Python functions: a URL, and a container that somebody started himself."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADGATE = (sys.executable, "-P", "-m", "headgate_cli.main")
KEY = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Target:
    """An HTTP server that answers with twice `n`, or with the status it was given."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                target.pushed.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = json.dumps({"twice": 2 * json.loads(body)["n"]}).encode()
                self.send_response(target.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def target() -> Iterator[Target]:
    found = Target()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


def written(folder: Path, handler: dict[str, Any], *others: dict[str, Any]) -> Path:
    pipeline = {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "FanoutPipeline",
        "metadata": {"name": "pushing"},
        "spec": {
            "branches": [{"name": "hook", "handler": handler, "retry": {"maxAttempts": 1}}],
            "join": {"branches": ["hook"]},
        },
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump_all([*others, pipeline]))
    return file


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADGATE, *arguments], cwd=folder, capture_output=True, text=True, timeout=90, check=False
    )


def settled(folder: Path, file: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run(
        folder, "run", file, "--publish", "3", "--until-settled", "--json", "--redis-url", url, *options
    )


def secret(**content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hooks"}} | content


@pytest.mark.parametrize(
    "content", [{"stringData": {"keys": KEY}}, {"data": {"keys": base64.b64encode(KEY.encode()).decode()}}]
)
def test_a_url_gets_every_event_signed_with_the_key_of_the_files_secret(
    tmp_path: Path, target: Target, valkey_url: str, content: dict[str, Any]
):
    http = {
        "url": f"{target.url}/hook",
        "allowNetworks": ["127.0.0.0/8"],
        "signingSecretRef": {"name": "hooks"},
    }
    done = settled(tmp_path, written(tmp_path, {"http": http}, secret(**content)), valkey_url)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(body)["n"] for _, _, body in target.pushed) == [0, 1, 2]
    for path, headers, body in target.pushed:
        assert path == "/hook"
        assert Webhook(KEY).verify(body, headers) == json.loads(body)
        assert headers["ce-specversion"] == "1.0"
    records = run(tmp_path, "records", "-p", "pushing", "--redis-url", valkey_url).stdout.splitlines()
    assert sorted(json.loads(each)["results"]["hook"]["twice"] for each in records) == [0, 2, 4]


def test_a_private_target_that_is_not_allowed_is_refused_as_on_a_cluster(
    tmp_path: Path, target: Target, valkey_url: str
):
    done = settled(tmp_path, written(tmp_path, {"http": {"url": target.url}}), valkey_url)
    assert done.returncode == 3
    assert "add its network to handler.http.allowNetworks" in done.stderr
    assert target.pushed == []


def test_a_target_that_is_gone_for_good_closes_its_branch_and_ends_the_run(
    tmp_path: Path, target: Target, valkey_url: str
):
    target.status = 410
    http = {"url": target.url, "allowNetworks": ["127.0.0.0/8"]}
    done = settled(tmp_path, written(tmp_path, {"http": http}), valkey_url)
    assert done.returncode == 5
    assert "branch hook is closed: " in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["deadLettered"] == 0


def test_a_container_is_pushed_to_where_the_command_line_says_it_listens(
    tmp_path: Path, target: Target, valkey_url: str
):
    file = written(tmp_path, {"container": {"image": "hook:1", "path": "/events"}})
    done = settled(tmp_path, file, valkey_url, "--container", f"hook={target.url}")
    assert done.returncode == 0, done.stderr
    assert {path for path, _, _ in target.pushed} == {"/events"}
    assert len(target.pushed) == 3


def test_a_service_of_a_cluster_is_pushed_to_where_the_command_line_says_it_listens(
    tmp_path: Path, target: Target, valkey_url: str
):
    http = {"url": "http://stock.shop.svc:8080/events?of=shop", "signingSecretRef": {"name": "hooks"}}
    file = written(tmp_path, {"http": http}, secret(stringData={"keys": KEY}))
    done = settled(tmp_path, file, valkey_url, "--service", f"hook={target.url}")
    assert done.returncode == 0, done.stderr
    assert len(target.pushed) == 3
    for path, headers, body in target.pushed:
        assert path == "/events?of=shop"
        assert Webhook(KEY).verify(body, headers) == json.loads(body)
    done = settled(tmp_path, file, valkey_url, "--service", f"hook={target.url}/other")
    assert done.returncode == 0, done.stderr
    assert [path for path, _, _ in target.pushed[3:]] == ["/other"] * 3


@pytest.mark.parametrize(
    ("handler", "options", "words"),
    [
        ({"http": {"url": "http://a.example"}}, ("--service", "hook"), "--service hook: give BRANCH=URL"),
        (
            {"container": {"image": "hook:1"}},
            ("--service", "hook=http://127.0.0.1:1"),
            "--service hook: no branch of that name has an http handler",
        ),
        ({"container": {"image": "hook:1"}}, (), "--container hook=http://127.0.0.1:8080"),
        ({"container": {"image": "hook:1"}}, ("--container", "hook"), "give BRANCH=URL"),
        (
            {"http": {"url": "http://a.example"}},
            ("--container", "hook=http://127.0.0.1:1"),
            "no branch of that name has a container",
        ),
        (
            {"http": {"url": "http://a.example", "signingSecretRef": {"name": "other"}}},
            (),
            "signingSecretRef.name: 'other': no such Secret",
        ),
        (
            {"http": {"url": "http://a.example", "signingSecretRef": {"name": "hooks", "key": "b"}}},
            (),
            "signingSecretRef.key: 'b': Secret hooks has no such key",
        ),
        (
            {"http": {"url": "http://a.example", "signingSecretRef": {"name": "hooks", "key": "broken"}}},
            (),
            "data of Secret hooks is no base64",
        ),
    ],
)
def test_what_is_missing_on_this_machine_is_told_with_its_remedy(
    tmp_path: Path, handler: dict[str, Any], options: tuple[str, ...], words: str
):
    file = written(tmp_path, handler, secret(stringData={"keys": KEY}, data={"broken": "?"}))
    done = run(tmp_path, "run", file, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert KEY not in done.stderr

"""`millrace models fetch` against a hub that refuses some times before it answers."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "a" * 40
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"\0" * 100}


class Hub(ThreadingHTTPServer):
    """One model, `org/tiny`; so many requests are told to come back."""

    daemon_threads = True

    def __init__(self, *, refusals: int, status: int = 429) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusals, self.status = refusals, status
        self.refused = 0
        self.tokens: set[str | None] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        with self.server.lock:
            self.server.tokens.add(self.headers.get("authorization"))
            if self.server.refused < self.server.refusals:
                self.server.refused += 1
                self._send(self.server.status, b"later", {"retry-after": "1"})
                return
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/tiny/tree"):
            files = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": COMMIT} for name in FILES]
            self._send(200, json.dumps(files).encode(), {"content-type": "application/json"})
        elif path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            self._send(200, body, {"content-type": "application/json"})
        elif (content := FILES.get(path.rpartition("/")[2])) is not None and path.startswith("/org/tiny/resolve/"):
            self._send(200, content, {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-repo-commit": COMMIT})
        else:
            self._send(404, b"", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with Hub(**request.param) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


def _fetch(hub: Hub, folder: Path, model: str = "org/tiny") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_XET": "1",
        "MILLRACE_MODEL": model,
        "no_proxy": "*",
    }
    return subprocess.run(
        [sys.executable, "-m", "millrace.cli", "models", "fetch"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("hub", [{"refusals": 3}, {"refusals": 3, "status": 503}], indirect=True, ids=["429", "503"])
def test_a_hub_that_refuses_for_now_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    fetched = _fetch(hub, tmp_path)

    assert fetched.returncode == 0, fetched.stderr
    name, _, folder = fetched.stdout.strip().partition(": ")
    assert name == "org/tiny"
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == FILES
    assert hub.refused == 3
    assert "Bearer hf_secret" in hub.tokens
    assert "hf_secret" not in fetched.stderr


@pytest.mark.parametrize("hub", [{"refusals": 0}], indirect=True)
def test_a_model_that_is_not_there_is_an_error_at_once(hub: Hub, tmp_path: Path) -> None:
    missing = _fetch(hub, tmp_path, model="org/nothing")

    assert missing.returncode == 1
    assert missing.stderr.startswith("millrace: model org/nothing")
    assert "hub_busy" not in missing.stderr

"""Keys on a real gateway process and a real queue, without workers: what is admitted waits, and can be counted."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
from redis import Redis

from shared.model_config import DEFAULT_MODEL
from shared.queues import Lane, queue_name
from tests.helpers.gateway_process import ROOT, gateway_process
from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.waiting import wait_until

BODY = {"inputs": "a text that only its sender knows"}
QUEUE = queue_name(DEFAULT_MODEL.name, Lane.INTERACTIVE)


def test_a_wrong_key_costs_the_caller_no_queue_place(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    # Given a gateway that holds one input and no more
    settings = {"MILLRACE_API_KEY": "right", "MILLRACE_MAX_PENDING_ITEMS": "1"}
    with gateway_process(redis_url, tmp_path, settings) as gateway, gateway.client("wrong") as wrong:

        def knock(_: int) -> int:
            return wrong.post("/embed", json=BODY).status_code

        # When many knock with a wrong key
        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(knock, range(400)))
        held, queued = gateway.metric("millrace_pending_items"), redis.llen(QUEUE)

        # Then none has taken the place
        assert statuses == {401}
        assert (held, queued) == (0, 0)
        assert gateway.metric("millrace_requests_total") == 0
        assert gateway.metric("millrace_refused_requests_total") == 400

        # and the right key gets it, while they go on knocking: it is queued, and another of them would be too many
        with gateway.client("right") as right, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(right.post, "/embed", json=BODY, headers={"x-request-timeout": "3"})
            wait_until(lambda: redis.llen(QUEUE) == 1, what="the right key's request to be queued")
            assert wrong.post("/embed", json=BODY).status_code == 401
            assert right.post("/embed", json=BODY).status_code == 429
            assert waiting.result().status_code == 504


def test_no_key_stands_in_any_log(redis_url: str, tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "mr_of-the-team"))
    settings = {"MILLRACE_API_KEY": "mr_of-everybody", "MILLRACE_KEYS_FILE": str(path), "MILLRACE_LOG_LEVEL": "debug"}
    with gateway_process(redis_url, tmp_path, settings) as gateway:
        for key in ("mr_of-everybody", "mr_of-the-team", "mr_wrong", None):
            with gateway.client(key) as client:
                client.post("/embed", json=BODY, headers={"x-request-timeout": "0.01"})
        path.write_text("tenants: mr_broken")
        wait_until(lambda: "keys_file_refused" in gateway.log(), what="the broken file to be noticed")

        assert "mr_" not in gateway.log()
        assert BODY["inputs"] not in gateway.log()
        assert "tenant=team" in gateway.log()


def test_a_key_is_replaced_while_the_gateway_runs(redis_url: str, tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "old"))

    def is_in(client: httpx.Client) -> bool:
        return client.get("/v1/models").status_code == 200

    settings = {"MILLRACE_KEYS_FILE": str(path)}
    with (
        gateway_process(redis_url, tmp_path, settings) as gateway,
        gateway.client("old") as old,
        gateway.client("new") as new,
    ):
        assert (is_in(old), is_in(new)) == (True, False)
        write_keys_file(path, tenant("team", "new"))
        wait_until(lambda: is_in(new), what="the new key to be taken")
        assert not is_in(old)


def test_a_revoked_key_ends_the_bulk_work_that_it_has_open(redis_url: str, tmp_path: Path) -> None:
    # Given an upload and a stream of events of one tenant, and an upload of another, whose key stays
    path = write_keys_file(tmp_path / "keys.yaml", tenant("gone", "gone"), tenant("stays", "stays"))
    gone_in_gateway, is_watched = threading.Event(), threading.Event()

    def documents() -> Iterator[bytes]:
        yield b'{"id": "a", "text": "one"}\n'
        assert gone_in_gateway.wait(30)
        yield b'{"id": "b", "text": "two"}\n'

    def events(client: httpx.Client, job: str) -> str:
        received = ""
        with suppress(httpx.RemoteProtocolError), client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            for text in stream.iter_text():
                received += text
                is_watched.set()
        return received

    settings = {"MILLRACE_KEYS_FILE": str(path)}
    with (
        gateway_process(redis_url, tmp_path, settings) as gateway,
        gateway.client("gone") as gone,
        gateway.client("gone") as watching,
        gateway.client("stays") as stays,
        ThreadPoolExecutor() as pool,
    ):
        headers = {"content-type": "application/x-ndjson"}
        job = gone.post("/v1/ingest", content=b'{"id": "a", "text": "one"}\n', headers=headers).json()["id"]
        uploads = [pool.submit(each.post, "/v1/ingest", content=documents(), headers=headers) for each in (gone, stays)]
        watched = pool.submit(events, watching, job)
        assert is_watched.wait(30)

        # When
        write_keys_file(path, tenant("stays", "stays"))
        with gateway.client("gone") as again:
            wait_until(lambda: again.get("/v1/jobs").status_code == 401, what="the key to be revoked")
        gone_in_gateway.set()

        # Then
        refused, kept = (each.result(30) for each in uploads)
        assert (refused.status_code, kept.status_code) == (401, 202)
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert "event: " in watched.result(10)


def test_a_wrong_keys_file_stops_the_start_in_one_sentence(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("tenants: [{name: a, keys: [{name: x, sha256: mr_secret}]}]")
    for module in ("api", "api.bulk"):
        environment = {
            **os.environ,
            "MILLRACE_KEYS_FILE": str(tmp_path / "keys.yaml"),
            "MILLRACE_REDIS_URL": redis_url,
            "MILLRACE_RUNNER_METRICS_PORT": "0",
        }
        command = [sys.executable, "-m", module]
        ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)

        assert ended.returncode == os.EX_CONFIG
        assert ended.stderr.count("\n") == 1
        assert "tenants.0.keys.0.sha256: String should match pattern" in ended.stderr
        assert "mr_secret" not in ended.stderr


def _client_in_log(url: str, folder: Path, settings: dict[str, str]) -> str:
    """Whom a gateway takes for the client of a request that names several."""
    folder.mkdir()
    headers = {"x-forwarded-for": "203.0.113.9, 198.51.100.7, 10.1.2.3"}
    with gateway_process(url, folder, settings) as gateway, gateway.client() as client:
        client.get("/v1/models", headers=headers)
        wait_until(lambda: "path=/v1/models" in gateway.log(), what="the line of the access log")
        (line,) = [line for line in gateway.log().splitlines() if "path=/v1/models" in line]
    return line.split("client=")[1].split()[0]


def test_who_forwards_is_believed_only_where_he_is_trusted(redis_url: str, tmp_path: Path) -> None:
    trusted = {"MILLRACE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}
    others = {"MILLRACE_TRUSTED_PROXIES": "10.0.0.0/8", "FORWARDED_ALLOW_IPS": "*"}

    assert _client_in_log(redis_url, tmp_path / "nobody", {}) == "127.0.0.1"
    assert _client_in_log(redis_url, tmp_path / "others", others) == "127.0.0.1"
    # The last that is none of the proxies: what stands before it anybody may have written.
    assert _client_in_log(redis_url, tmp_path / "trusted", trusted) == "198.51.100.7"

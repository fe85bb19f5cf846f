"""Bulk work of two tenants on a real gateway: neither sees, names or disturbs what is the other's."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.keys_files import tenant, write_keys_file

DOCUMENTS = b'{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n'
LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"input": "one"}}'
WEBHOOK = {"name": "mine", "url": "https://receiver.example/hook", "event_types": ["batch.completed"]}


@pytest.fixture(scope="module")
def gateway(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One that knows two tenants."""
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    folder = tmp_path_factory.mktemp("tenants")
    path = write_keys_file(
        folder / "keys.yaml",
        tenant("mine", "my-key", "my-other-key"),
        tenant("yours", "your-key"),
        tenant("narrow", "rerank-jobs", routes=["bulk", "rerank"]),
        tenant("elsewhere", "other-model", models=["org/elsewhere"]),
    )
    with gateway_process(valkey_url, folder, {"MILLRACE_KEYS_FILE": str(path)}) as started:
        yield started


@pytest.fixture
def mine(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client("my-key") as client:
        yield client


@pytest.fixture
def yours(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client("your-key") as client:
        yield client


def _ingest(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post("/v1/ingest", content=DOCUMENTS, headers={"content-type": "application/x-ndjson", **headers})


def _file(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("l.jsonl", LINE)}, headers=headers)


def _batch(client: httpx.Client, file_id: str, **more: Any) -> httpx.Response:
    body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h", **more}
    return client.post("/v1/batches", json=body)


def _made(client: httpx.Client) -> dict[str, str]:
    """One thing of each kind, made with a key; their ids."""
    file_id = _file(client).json()["id"]
    return {
        "file": file_id,
        "batch": _batch(client, file_id).json()["id"],
        "job": _ingest(client).json()["id"],
        "webhook": client.post("/v1/webhook_endpoints", json=WEBHOOK).json()["id"],
    }


def test_what_a_tenant_made_is_not_there_for_another(mine: httpx.Client, yours: httpx.Client) -> None:
    made = _made(mine)
    job, batch, file, webhook = (
        f"/v1/jobs/{made['job']}",
        f"/v1/batches/{made['batch']}",
        f"/v1/files/{made['file']}",
        f"/v1/webhook_endpoints/{made['webhook']}",
    )
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", job, {}),
        ("DELETE", job, {}),
        ("POST", f"{job}/documents", {"content": DOCUMENTS}),
        ("POST", f"{job}/cancel", {}),
        ("POST", f"{job}/resume", {}),
        ("GET", f"{job}/events", {}),
        ("GET", f"{job}/results", {}),
        ("GET", f"{job}/callbacks", {}),
        ("POST", f"{job}/callbacks/replay", {}),
        ("GET", f"/v1/jobs/{made['batch']}", {}),
        ("GET", batch, {}),
        ("POST", f"{batch}/cancel", {}),
        ("GET", file, {}),
        ("GET", f"{file}/content", {}),
        ("DELETE", file, {}),
        ("GET", webhook, {}),
        ("POST", webhook, {"json": {"name": "taken"}}),
        ("POST", f"{webhook}/rotate_secret", {}),
        ("POST", f"{webhook}/test", {"json": {"event_type": "batch.completed"}}),
        ("DELETE", webhook, {}),
    ]

    # When the other asks for all of it
    statuses = {f"{method} {path}": yours.request(method, path, **more).status_code for method, path, more in asked}

    # Then nothing is there for him, and all of it still is for its owner, with any of his keys
    assert statuses == dict.fromkeys(statuses, 404)
    assert [mine.get(path).status_code for path in (job, batch, file, webhook)] == [200] * 4
    assert mine.get(job).json()["status"] in ("in_progress", "receiving")


@pytest.mark.parametrize("behind", ["segments", "done", "sizes", "events"])
def test_what_is_kept_beside_a_job_is_no_job(mine: httpx.Client, yours: httpx.Client, behind: str) -> None:
    made = _made(mine)
    for client in (mine, yours):
        for path in (f"/v1/jobs/{made['job']}:{behind}", f"/v1/batches/{made['batch']}:{behind}"):
            assert client.get(path).status_code == 404
            assert client.post(f"{path}/cancel").status_code == 404


def test_parameters_of_a_batch_have_a_size_as_what_is_kept_with_it_has(mine: httpx.Client) -> None:
    file_id = _file(mine).json()["id"]

    refused = _batch(mine, file_id, request_params={"zz": "a" * 20_000})

    assert refused.status_code in (400, 422)
    assert "request_params" in refused.text
    assert "16384 bytes" in refused.text
    assert _batch(mine, file_id, request_params={"zz": "a" * 10_000}).status_code == 200


def test_a_tenants_keys_share_what_is_his(gateway: GatewayProcess, mine: httpx.Client) -> None:
    job_id = _ingest(mine).json()["id"]

    with gateway.client("my-other-key") as other:
        assert other.get(f"/v1/jobs/{job_id}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/files", "/v1/webhook_endpoints"])
def test_a_list_has_what_is_ones_own(mine: httpx.Client, yours: httpx.Client, path: str) -> None:
    def listed(client: httpx.Client) -> set[str]:
        return {entry["id"] for entry in client.get(path, params={"limit": 100}).json()["data"]}

    # Given something of each
    made, others = set(_made(mine).values()), set(_made(yours).values())

    # Then
    assert made & listed(mine)
    assert others & listed(yours)
    assert not listed(mine) & listed(yours)
    # and another's is no place to start a page after
    (anothers, *_) = others & listed(yours)
    assert mine.get(path, params={"after": anothers}).status_code == 404


def test_anothers_file_is_no_input_and_anothers_webhook_no_receiver(mine: httpx.Client, yours: httpx.Client) -> None:
    made = _made(mine)
    own = _file(yours).json()["id"]

    refused = [
        _batch(yours, made["file"]),
        _batch(yours, own, webhook={"endpoint": made["webhook"]}),
        yours.post("/v1/jobs", json={"webhook": {"endpoint": made["webhook"]}}),
    ]

    assert [answer.status_code for answer in refused] == [404] * 3


def test_deleted_things_leave_the_list(mine: httpx.Client) -> None:
    made = _made(mine)
    for path, kind in (("/v1/files", "file"), ("/v1/webhook_endpoints", "webhook")):
        assert mine.delete(f"{path}/{made[kind]}").status_code == 200
        assert made[kind] not in {entry["id"] for entry in mine.get(path).json()["data"]}


@pytest.mark.parametrize("send", [_ingest, _file])
def test_idempotency_keys_are_each_tenants_own(mine: httpx.Client, yours: httpx.Client, send: Any) -> None:
    headers = {"idempotency-key": f"the-same-{send.__name__}"}

    first, again, others = send(mine, **headers), send(mine, **headers), send(yours, **headers)

    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert others.status_code == first.status_code
    assert others.json()["id"] != first.json()["id"]


def test_a_job_is_for_models_and_routes_that_its_key_may_use(gateway: GatewayProcess) -> None:
    with gateway.client("other-model") as client:
        refused = [_ingest(client), client.post("/v1/jobs", json={"model": "all-MiniLM-L6-v2"})]
        assert [answer.status_code for answer in refused] == [403, 403]
    with gateway.client("rerank-jobs") as client:
        file_id = _file(client).json()["id"]
        assert _ingest(client).status_code == 403
        assert _batch(client, file_id).status_code == 403
        assert _batch(client, file_id, endpoint="/v1/rerank").status_code == 200

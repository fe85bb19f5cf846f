"""What a tenant may use holds for its bulk work too, while it runs: the real service with two models."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.service import Service
from tests.helpers.tiny_models import embedding_model
from tests.helpers.waiting import wait_until

BIG, TINY = "all-MiniLM-L6-v2", "tiny-model"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keys_file(
        tmp_path_factory.mktemp("keys") / "keys.yaml", *_tenants("free", "tiny", "counted", "checker")
    )


def _tenants(*names: str) -> list[dict[str, object]]:
    known = {
        "free": tenant("free", "free-key", "tiny-key-of-free"),
        "counted": tenant("counted", "counted-key"),
        "tiny": tenant("tiny", "tiny-key", models=[TINY]),
        # What the chart's values ask for the key of `helm test`
        "checker": tenant("checker", "checker-key", routes=["embed", "rerank", "tokenize", "admin"]),
    }
    known["free"]["keys"][1]["models"] = [TINY]
    return [known[name] for name in names]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys_file: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("tenants")
    tiny = embedding_model(folder / "made", "bert").rename(folder / TINY)
    service = Service(folder, {"MILLRACE_MODEL": f"{BIG},{tiny}", "MILLRACE_KEYS_FILE": str(keys_file)})
    service.start()
    yield service
    service.stop()


def _client(service: Service, key: str) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=key, timeout=60, max_retries=0)


def _statuses(client: OpenAI, models: list[str]) -> dict[str, int]:
    """The status of a batch's lines by the model that they name."""
    lines = [
        {"custom_id": model, "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": "a"}}
        for model in models
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    file_id = client.files.create(file=("batch.jsonl", data), purpose="batch").id
    batch = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
    wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", timeout_s=60, what="the batch to end")
    batch = client.batches.retrieve(batch.id)
    files = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
    found = [json.loads(line) for file_id in files for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line["response"]["status_code"] for line in found}


@pytest.mark.parametrize(("key", "of_big"), [("free-key", 200), ("tiny-key", 403), ("tiny-key-of-free", 403)])
def test_lines_of_a_batch_run_the_models_that_tenant_and_key_may_use(service: Service, key: str, of_big: int) -> None:
    with _client(service, key) as client:
        assert _statuses(client, [BIG, TINY]) == {BIG: of_big, TINY: 200}


def test_the_self_test_needs_a_key_for_the_routes_that_it_asks(service: Service) -> None:
    def check(key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "millrace.cli", "check", service.url, "--api-key", key, "--wake", "5"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    allowed, ordinary = check("checker-key"), check("free-key")

    assert allowed.returncode == 0, allowed.stdout
    assert "10 of 10 checks passed" in allowed.stdout
    assert ordinary.returncode == 1
    assert "status 403" in ordinary.stdout


def test_clients_get_what_their_key_may_use_and_errors_of_the_right_class(service: Service) -> None:
    with _client(service, "tiny-key") as client:
        assert len(client.embeddings.create(model=TINY, input=["a", "b"]).data) == 2
        with pytest.raises(openai.PermissionDeniedError, match="may not use model"):
            client.embeddings.create(model=BIG, input="a")
    with _client(service, "wrong") as client, pytest.raises(openai.AuthenticationError, match="is not valid here"):
        client.embeddings.create(model=TINY, input="a")


def test_usage_is_told_by_day_and_model(service: Service) -> None:
    # Given a tenant's own use of each kind: requests, a batch, documents of a job and of a stream
    with service.client() as http, _client(service, "counted-key") as client:
        http.headers["authorization"] = "Bearer counted-key"
        client.embeddings.create(model=TINY, input=["a", "b"])
        client.embeddings.create(model=BIG, input="a b c d")
        _statuses(client, [TINY])
        documents = {"content": b'{"text": "a"}\n{"text": ""}\n', "headers": {"content-type": "application/x-ndjson"}}
        job = http.post("/v1/ingest", params={"model": TINY}, **documents).json()
        wait_until(lambda: http.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed", what="the job to end")
        documents["headers"]["accept"] = "application/x-ndjson"
        http.post("/v1/ingest", params={"model": TINY}, **documents)

        # Then it is all counted within some seconds, and what failed is not
        def used() -> dict[str, tuple[int, int]]:
            report = http.get("/v1/usage", params={"days": 2}).json()
            return {entry["model"].split("/")[-1]: (entry["requests"], entry["items"]) for entry in report["data"]}

        wait_until(lambda: used() == {TINY: (2, 5), BIG: (1, 1)}, what="the usage to be added up")
        report = http.get("/v1/usage").json()
        assert report["tenant"] == "counted"
        assert report["total"]["items"] == 6
        assert report["total"]["tokens"] == sum(entry["tokens"] for entry in report["data"]) > 6

        # and other tenants see theirs alone, in metrics too
        http.headers["authorization"] = "Bearer free-key"
        assert http.get("/v1/usage").json()["tenant"] == "free"
        assert http.get("/v1/usage", params={"tenant": "counted"}).status_code == 403
        metrics = http.get("/metrics").text
    assert re.search(r'millrace_tenant_requests_total\{model="[^"]*tiny-model",tenant="counted"\} 1\.0', metrics)


def test_what_a_tenant_may_no_longer_use_ends_its_jobs(service: Service, keys_file: Path) -> None:
    """The last test: it takes the tenants away."""
    with service.client() as client:
        client.headers["authorization"] = "Bearer free-key"
        # Given a job whose documents are not all there
        job = client.post("/v1/jobs", json={"model": BIG}).json()
        path = f"/v1/jobs/{job['id']}"
        before = len(re.findall("keys_file_read", service.log()))

        # When its tenant may use the other model only, and documents come
        changed = _tenants("free", "tiny", "counted")
        changed[0]["models"] = [TINY]
        write_keys_file(keys_file, *changed)
        wait_until(
            lambda: len(re.findall("keys_file_read", service.log())) >= before + 2,
            what="gateway and runner to follow the file",
        )
        client.post(f"{path}/documents", content=b'{"text": "a"}\n', headers={"content-type": "application/x-ndjson"})

        # Then it fails and says why
        wait_until(lambda: client.get(path).json()["status"] == "failed", timeout_s=30, what="the job to fail")
        error = client.get(path).json()["errors"][0]
        assert error["code"] == "permission_denied"
        assert "may not use model" in error["message"]

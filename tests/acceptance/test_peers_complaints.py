"""What users of Infinity and of text-embeddings-inference (TEI) complain of most, tried on the whole service.

The numbers are those of the tables in docs/reliability.md, which names the tests of the other complaints too.
"""

import asyncio
import base64
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from random import Random

import httpx
import psutil
import pytest
from packaging.requirements import Requirement

from tests.helpers.load import embed_all
from tests.helpers.service import Service
from tests.helpers.tiny_image_models import encoded, image_text_model, picture
from tests.helpers.tiny_qwen3_vl import qwen3_vl
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: How many inputs may wait in the service that is flooded.
MOST_PENDING = 40


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the default model and two that read images."""
    folder = tmp_path_factory.mktemp("seeing")
    models = [image_text_model(folder / "clip", "clip"), qwen3_vl(folder / "qwen3-vl")]
    service = Service(
        folder, {"MILLRACE_MODEL": ",".join(["sentence-transformers/all-MiniLM-L6-v2", *map(str, models)])}
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose engine fails on planted words, and in which few may wait."""
    service = Service(
        tmp_path_factory.mktemp("fragile"),
        {
            "MILLRACE_ENGINE": "tests.helpers.faulty_engine",
            "MILLRACE_MAX_PENDING_ITEMS": str(MOST_PENDING),
            # An engine that stands still is not replaced while the test looks.
            "MILLRACE_ENGINE_PATIENCE_S": "60",
        },
    )
    service.start()
    yield service
    service.stop()


def parts(service: Service) -> dict[str, int]:
    """The processes that requests pass through."""
    return service.pids(("api", "workers", engine_of(service)))


def engine_of(service: Service) -> str:
    """The module that its engine process runs."""
    return service.environment.get("MILLRACE_ENGINE", "workers.engine")


@pytest.mark.parametrize("model", ["model", "qwen3-vl"])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_a_picture_of_one_pixel_hangs_nothing(seeing: Service, model: str, size: tuple[int, int]) -> None:
    """Infinity 1: a picture of 1 x 1 ends the thread that prepares inputs; all later requests hang."""
    before = parts(seeing)
    image = base64.b64encode(encoded(picture(*size))).decode()
    with seeing.client() as client:
        found = client.post("/v1/embeddings", json={"model": model, "input": [{"image": image}]})
        good = base64.b64encode(encoded(picture(40, 30))).decode()
        after = client.post("/v1/embeddings", json={"model": model, "input": [{"image": good}, "a mill"]})

    assert found.status_code in (200, 400), found.text
    if found.status_code == 400:
        assert found.json()["error"]["code"] == "invalid_image"
    assert after.status_code == 200
    assert parts(seeing) == before


def test_a_model_that_does_not_answer_is_told_by_the_deep_check_though_its_process_lives(fragile: Service) -> None:
    """Infinity 2, TEI 17: `/health` says nothing about inference, and a dead device eats traffic."""
    engine = fragile.part(engine_of(fragile))
    with fragile.client() as client:
        assert client.get("/health/deep").status_code == 200
        engine.send_signal(signal.SIGSTOP)
        try:
            told, alive = client.get("/health/deep"), client.get("/livez")
        finally:
            engine.send_signal(signal.SIGCONT)
        wait_until(
            lambda: client.get("/health/deep").status_code == 200, timeout_s=60, what="the model to answer again"
        )

    assert told.status_code == 503
    assert not told.json()["ok"]
    assert alive.status_code == 200


def test_after_failures_nothing_is_refused(fragile: Service) -> None:
    """Infinity 3: once a worker has failed, its queue fills up and every call is a 429 until a restart."""
    with fragile.client(timeout_s=120) as client:
        # When more inputs fail than may wait at a time
        bad = {"inputs": ["a text with infinity in it"] * (MOST_PENDING // 4)}
        failed = [client.post("/embed", json=bad) for _ in range(6)]
        assert {response.status_code for response in failed} == {424}

        # Then as many as may wait are answered at once, and nothing is counted as waiting
        good = client.post("/embed", json={"inputs": ["a mill"] * MOST_PENDING})
        metrics = client.get("/metrics").text

    assert good.status_code == 200
    assert "millrace_pending_items 0.0" in metrics


def test_more_than_may_wait_is_refused_and_the_rest_answered_by_the_same_processes(fragile: Service) -> None:
    """Infinity 3, TEI 11: an overflowing queue refuses for ever, or ends the process."""
    before = parts(fragile)

    answers = asyncio.run(embed_all(fragile.url, ["a mill"] * 1000, concurrency=4 * MOST_PENDING, timeout_s=60))

    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= MOST_PENDING
    with fragile.client() as client:
        assert client.post("/embed", json={"inputs": ["a mill"] * MOST_PENDING}).status_code == 200
    assert parts(fragile) == before


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_every_openai_like_path_is_there_with_v1_and_without(service: Service, prefix: str) -> None:
    """Infinity 5: clients ask for `/v1/...`, which has to be switched on."""
    with service.client() as client:
        embeddings = client.post(f"{prefix}/embeddings", json={"input": "a mill"})
        ranks = client.post(f"{prefix}/rerank", json={"query": "a mill", "documents": ["a mill", "a car"]})
        models = client.get(f"{prefix}/models")

    assert len(embeddings.json()["data"][0]["embedding"]) == 384
    assert ranks.json()["results"][0]["index"] == 0
    assert models.json()["data"][0]["id"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_langchains_token_ids_are_refused_with_the_switch_that_sends_texts(service: Service) -> None:
    """Infinity 6: LangChain's OpenAI client sends ids of OpenAI's vocabulary, and gets a 422 that does not say why."""
    with service.client() as client:
        answer = client.post("/v1/embeddings", json={"input": [[64, 2646]], "model": "all-MiniLM-L6-v2"})

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "token_input_unsupported"
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


def test_the_engine_runs_on_the_newest_pinned_libraries_and_needs_no_optimum() -> None:
    """Infinity 8: a newer transformers or optimum breaks the import of BetterTransformer."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    names = {Requirement(line).name for line in needed}
    pinned = dict(
        line.split(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )

    assert "optimum" not in names
    assert not any(
        Requirement(line).name == "optimum" for line in requires("sentence-transformers") or [] if "extra" not in line
    )
    for library in ("transformers", "sentence-transformers", "torch"):
        assert version(library).split("+")[0] == pinned[library]


def test_a_batch_with_nan_is_no_list_of_nulls(fragile: Service) -> None:
    """TEI 19: numbers overflow, and the answer is a list of nulls with status 200."""
    with fragile.client() as client:
        answer = client.post("/embed", json={"inputs": ["a mill", "a text with infinity in it"]})

    assert answer.status_code == 424
    assert "null" not in answer.text


def test_many_texts_in_one_request_are_not_refused_for_their_number(service: Service) -> None:
    """TEI 12: concurrency is counted by inputs: 16 requests of 32 texts are all that there may be."""
    texts = [[f"mill {number} of request {request}" for number in range(64)] for request in range(32)]

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as client:
            headers = {"x-request-timeout": "110"}
            return list(
                await asyncio.gather(*(client.post("/embed", json={"inputs": some}, headers=headers) for some in texts))
            )

    responses = asyncio.run(send())

    assert {response.status_code for response in responses} == {200}
    assert {len(response.json()) for response in responses} == {64}


def test_memory_does_not_grow_with_reranking(service: Service) -> None:
    """TEI 15: resident memory grows from 6 to 42 GB while texts of ever new lengths are ranked."""
    random = Random(15)

    def rerank(client: httpx.Client, count: int) -> None:
        for _ in range(count):
            documents = ["mill " * random.randrange(1, 60) for _ in range(random.randrange(1, 12))]
            answer = client.post("/rerank", json={"query": "a mill", "texts": documents})
            assert answer.status_code == 200
            assert len(answer.json()) == len(documents)

    with service.client() as client:
        rerank(client, 60)
        before = _memory_mb(service)
        rerank(client, 120)
        after = _memory_mb(service)

    # A leak of each batch's tensors would be some hundred megabytes by now.
    assert all(after[name] < used + 60 for name, used in before.items()), (before, after)


def _memory_mb(service: Service) -> dict[str, float]:
    """Resident memory of the processes that requests pass through."""
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in parts(service).items()}

"""A panic in the tokenizer's Rust code is no Exception in Python: it fails one request and ends no thread of the worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.service import Service
from tests.helpers.tiny_models import embedding_model

#: Cuts more from both ends of a token than it has: `tokenizers` reads beyond its end then.
DECODER = {"type": "Strip", "content": "a", "start": 2, "stop": 2}
TEXT = "He drove to work."


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service whose model's tokenizer panics when it decodes the letter a."""
    path = embedding_model(tmp_path / "model", "modernbert") / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder": DECODER}))
    models = {"models": [{"name": "panicky", "source": str(path.parent)}]}
    (tmp_path / "models.yaml").write_text(json.dumps(models))
    service = Service(tmp_path, {"MILLRACE_MODELS_FILE": str(tmp_path / "models.yaml")})
    service.start()
    yield service
    service.stop()


def test_a_panic_in_the_tokenizer_is_answered_and_the_worker_goes_on(service: Service) -> None:
    parts = service.pids(["workers", "workers.engine"])
    with service.client() as client:
        (tokens,) = client.post("/tokenize", json={"inputs": "a", "add_special_tokens": False}).json()

        answers = [client.post("/decode", json={"ids": [tokens[0]["id"]]}) for _ in range(2)]

        assert tokens[0]["text"] == "a"
        assert [answer.status_code for answer in answers] == [424, 424]  # what TEI calls it
        assert "the input could not be tokenised" in answers[0].text
        assert client.post("/embed", json={"inputs": TEXT}).status_code == 200
    assert service.pids(parts) == parts
    assert "pyo3_runtime.PanicException" in service.log()

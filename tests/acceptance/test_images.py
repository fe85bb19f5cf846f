"""Images through the whole service: base64, data URIs and URLs, beside texts, to one vector space."""

import base64
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.helpers.service import Service
from tests.helpers.through_engine import Array, Served
from tests.helpers.tiny_image_models import encoded, image_text_model, picture
from tests.helpers.tiny_qwen3_vl import qwen3_vl

PICTURES = [encoded(picture(90, 60)), encoded(picture(40, 80, seed=1), "JPEG")]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with a picture, on this machine."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "mill.png").write_bytes(PICTURES[0])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_text_model(tmp_path_factory.mktemp("clip"), "clip")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_vl(tmp_path_factory.mktemp("qwen") / "qwen3-vl")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, clip: Path, qwen: Path, site: str) -> Iterator[Service]:
    """A service with the default model and two that see."""
    models = f"sentence-transformers/all-MiniLM-L6-v2,{clip},{qwen}"
    service = Service(
        tmp_path_factory.mktemp("images"),
        {"MILLRACE_MODEL": models, "MILLRACE_IMAGE_HOSTS": site, "MILLRACE_MAX_IMAGES": "8"},
    )
    service.start()
    yield service
    service.stop()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _vectors(response: httpx.Response) -> Array:
    assert response.status_code == 200, response.text
    return np.array([entry["embedding"] for entry in response.json()["data"]], np.float32)


def _expected(clip: Path, texts: list[str], images: list[bytes | None]) -> Array:
    return Served(clip).embed(texts, images=images)


def test_texts_and_images_come_back_in_their_order(service: Service, clip: Path, site: str) -> None:
    inputs = [
        "a mill by the river",
        {"image": f"http://{site}/mill.png?token=secret"},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(PICTURES[1])}"}},
        {"text": "x"},
        {"type": "image", "url": _base64(PICTURES[1])},
    ]
    with service.client() as client:
        response = client.post("/v1/embeddings", json={"input": inputs})

    images = [None, PICTURES[0], PICTURES[1], None, PICTURES[1]]
    expected = _expected(clip, ["a mill by the river", "", "", "x", ""], images)
    np.testing.assert_allclose(_vectors(response), expected, atol=1e-5)
    assert response.json()["usage"]["prompt_tokens"] > 3 * 17, "an image counts as its patches"


def test_a_model_may_read_images_among_its_tokens(service: Service, qwen: Path) -> None:
    image = {"image": _base64(PICTURES[0])}
    body = {"input": ["a mill", image, "x", {"image": _base64(PICTURES[1])}, image], "model": qwen.name}
    with service.client() as client:
        response = client.post("/v1/embeddings", json=body)

    expected = _expected(qwen, ["a mill", "", "x", "", ""], [None, PICTURES[0], None, PICTURES[1], PICTURES[0]])
    np.testing.assert_allclose(_vectors(response), expected, atol=1e-5)


def test_infinitys_modality_and_the_openai_client(service: Service, clip: Path) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        answer = client.embeddings.create(
            model="model", input=[_base64(data) for data in PICTURES], extra_body={"modality": "image"}
        )

    vectors = np.array([entry.embedding for entry in answer.data], np.float32)
    np.testing.assert_allclose(vectors, _expected(clip, ["", ""], [*PICTURES]), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"input": [{"image": "http://169.254.169.254/latest/meta-data"}]}, 400, "address that is not public"),
        ({"input": [{"image": "http://localhost:1/a.png"}]}, 400, "address that is not public"),
        ({"input": ["a", {"image": "file:///etc/passwd"}]}, 400, "`input[1]`: an image must be an http"),
        ({"input": [{"image": _base64(b"no picture at all")}]}, 400, "`input[0]`: the base64 data is not an image"),
        ({"input": [{"image": _base64(PICTURES[0][:80])}]}, 400, "`input[0]`: the image is damaged"),
        ({"input": [{"image": _base64(PICTURES[0])}], "model": "all-MiniLM-L6-v2"}, 400, "takes no images"),
        ({"input": [{"image": _base64(PICTURES[0])}] * 9}, 413, "9 images in one request are more than 8"),
        ({"input": [{"image": ""}]}, 400, "cannot be empty"),
    ],
    ids=["metadata", "localhost", "file", "garbage", "damaged", "wrong model", "too many", "empty"],
)
def test_what_cannot_be_embedded_is_refused_in_one_sentence(
    service: Service, body: dict[str, Any], status: int, sentence: str
) -> None:
    with service.client() as client:
        response = client.post("/v1/embeddings", json=body)

    assert response.status_code == status, response.text
    assert sentence in response.json()["error"]["message"]


def test_a_damaged_image_fails_alone(service: Service, clip: Path) -> None:
    damaged = {"input": [{"image": _base64(PICTURES[0][:80])}]}
    with service.client() as client:
        threads = [
            threading.Thread(target=client.post, args=("/v1/embeddings",), kwargs={"json": damaged}) for _ in "ab"
        ]
        for thread in threads:
            thread.start()
        good = client.post("/v1/embeddings", json={"input": [{"image": _base64(PICTURES[0])}]})
        for thread in threads:
            thread.join()

    np.testing.assert_allclose(_vectors(good), _expected(clip, [""], [PICTURES[0]]), atol=1e-5)


def test_a_large_photograph_holds_up_no_text(service: Service) -> None:
    # Given an image whose decoding takes a good part of a second
    noise = np.random.default_rng(0).integers(0, 255, (4000, 4000, 3), dtype=np.uint8)
    slow = {"input": [{"image": _base64(encoded(Image.fromarray(noise), "JPEG", quality=30))}]}
    answers: list[httpx.Response] = []
    with service.client() as client:
        thread = threading.Thread(target=lambda: answers.append(client.post("/v1/embeddings", json=slow)))
        thread.start()
        before = 0
        while thread.is_alive():
            text = client.post("/v1/embeddings", json={"input": "a mill", "model": "all-MiniLM-L6-v2"})
            before += text.status_code == 200 and not answers
        thread.join()

    assert answers[0].status_code == 200
    assert before >= 2, "texts that came later were answered earlier"


def test_no_reference_of_an_image_reaches_the_log(service: Service) -> None:
    log = service.log()

    assert "token=secret" not in log
    assert _base64(PICTURES[0])[:60] not in log

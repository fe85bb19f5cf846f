"""Hostile requests on every route, from a seed."""

import copy
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from tests.helpers import hostile_http, hostile_values
from tests.helpers.raw_http import post

#: Stands for a value in a body that is not yet there.
_PLACE = "\N{LEFT BLACK LENTICULAR BRACKET}place\N{RIGHT BLACK LENTICULAR BRACKET}"
_JSON = b"content-type: application/json"
_NDJSON = b"content-type: application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Hostile:
    """A request."""

    #: What is hostile about it.
    family: str
    #: Its bytes, which are sent one piece after the other.
    pieces: tuple[bytes, ...]
    #: Whether the sender waits for the answer.
    stays: bool = True


def hostile_requests(openapi: Mapping[str, Any], *, seed: int, count: int) -> Iterator[Hostile]:
    """So many hostile requests.

    Args:
        openapi: What the service says of its routes.
        seed: The same seed makes the same requests.
        count: How many, large ones among them.
    """
    random = Random(seed)
    routes = _Routes(openapi)
    large = dict(enumerate(_large()))
    # The large ones are spread evenly, so that there is always one under way.
    every = max(1, count // len(large))
    for number in range(count):
        if number % every == every // 2 and number // every in large:
            yield large[number // every]
        else:
            yield _small(routes, random)


def harmless_requests(openapi: Mapping[str, Any], *, seed: int, count: int) -> Iterator[Hostile]:
    """So many requests of which hostile ones are made: the documented examples of the same routes, as they are."""
    random = Random(seed)
    routes = _Routes(openapi)
    for _ in range(count):
        path, body = routes.example(random)
        yield Hostile("harmless", (post(path, json.dumps(body).encode(), _JSON),))


def _small(routes: "_Routes", random: Random) -> Hostile:
    kind = random.random()
    if kind < 0.5:
        path, body = routes.with_a_hostile_value(random)
        found = Hostile("a value", hostile_http.pieces(post(path, body, _JSON), random))
    elif kind < 0.62:
        path, body = routes.with_a_hostile_body(random)
        found = Hostile("a body", hostile_http.pieces(post(path, body, _JSON), random))
    elif kind < 0.68:
        found = Hostile("an image", (routes.with_a_hostile_image(random),))
    elif kind < 0.78:
        found = Hostile("an address", (routes.at_a_hostile_address(random),))
    elif kind < 0.83:
        found = Hostile("a bulk body", (_bulk(random),))
    elif kind < 0.9:
        name, request = random.choice([*hostile_http.AMBIGUOUS.items()])
        found = Hostile(f"smuggling: {name}", hostile_http.pieces(request + hostile_http.HIDDEN, random))
    elif kind < 0.98:
        name, request = random.choice([*hostile_http.STRANGE.items()])
        found = Hostile(f"HTTP: {name}", hostile_http.pieces(request, random))
    else:
        found = Hostile("headers without end", (random.choice(hostile_http.ENDLESS),))
    return _leaving(found, random) if random.random() < 0.06 else found


def _leaving(request: Hostile, random: Random) -> Hostile:
    """The same from a client that goes away in its middle, or before it is answered."""
    whole = b"".join(request.pieces)
    cut = random.choice([len(whole), random.randrange(1, len(whole))])
    return Hostile("early close", (whole[:cut],), stays=False)


class _Routes:
    """The service's routes, with an example of each."""

    def __init__(self, openapi: Mapping[str, Any]) -> None:
        self._posts: list[tuple[str, dict[str, Any]]] = []
        self._addresses: list[tuple[str, str]] = []
        for path, methods in openapi["paths"].items():
            if path == "/health/deep":
                continue  # which is to say 503 when a model is too busy for it
            for method, route in methods.items():
                self._addresses.append((method.upper(), path))
                examples = (
                    route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {})
                )
                self._posts += [
                    (path.replace("{model}", "all-MiniLM-L6-v2"), entry["value"]) for entry in examples.values()
                ]
        self._posts += _OTHER_POSTS

    def example(self, random: Random) -> tuple[str, dict[str, Any]]:
        """A path that runs a model, and a body that is all right."""
        return random.choice(self._posts[: -len(_OTHER_POSTS)])

    def with_a_hostile_value(self, random: Random) -> tuple[str, bytes]:
        """A body that is all right but for one value, or key."""
        path, example = random.choice(self._posts)
        body = copy.deepcopy(example)
        value = hostile_values.fragment(random)
        if random.random() < 0.05:
            body[_PLACE] = 1
            if not value.startswith(b'"'):
                value = b'"%s"' % value.replace(b'"', b"")
        elif random.random() < 0.1:
            body[random.choice(_FIELDS)] = _PLACE
        else:
            _put(body, random)
        return path, json.dumps(body, ensure_ascii=False).encode().replace(
            json.dumps(_PLACE, ensure_ascii=False).encode(), value
        )

    def with_a_hostile_body(self, random: Random) -> tuple[str, bytes]:
        """A body that is wrong as a whole."""
        path, example = random.choice(self._posts)
        good = json.dumps(example).encode()
        cut = random.randrange(len(good))
        bodies = [
            b"",
            b" \n\t ",
            b"null",
            b"[]",
            b'"x"',
            b"0",
            b"[" * 20_000,
            b'{"a":' * 20_000,
            b"[" * 1000 + b"]" * 1000,
            good[:cut],
            good[:cut] + b"\0" + good[cut:],
            good[:cut] + b"\xff" + good[cut:],
            good + b"}",
            good + good,
            good + b" " * 1000 + b"x",
            b"\xef\xbb\xbf" + good,
            good.decode().encode("utf-16"),
            gzip.compress(good),
            good.replace(b'"', b"'"),
            b"inputs=x&input=y",
            random.randbytes(500),
            b'{"inputs":"a","inputs":"b","input":"c","query":"d","texts":["e"],"documents":["f"]}',
            json.dumps({f"field{number}": number for number in range(5000)}).encode(),
        ]
        return path, random.choice(bodies)

    def with_a_hostile_image(self, random: Random) -> bytes:
        """An image that is none."""
        image = random.choice(hostile_values.IMAGES)
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("/v1/embeddings", {"model": "image-model", "input": [{"image": image}]}),
            (
                "/v1/embeddings",
                {"model": "image-model", "input": ["a mill", {"image_url": {"url": image}, "type": "image_url"}]},
            ),
            ("/v2/embed", {"model": "image-model", "images": [image], "input_type": "image"}),
            ("/infinity/embeddings", {"model": "image-model", "input": [image], "modality": "image"}),
            ("/qdrant/inference", {"inputs": [{"model": "image-model", "data": image, "data_type": "image"}]}),
        ]
        path, body = random.choice(bodies)
        return post(path, json.dumps(body).encode(), _JSON)

    def at_a_hostile_address(self, random: Random) -> bytes:
        """A request with something strange in its path or query."""
        method, path = random.choice(self._addresses)
        word = quote(hostile_values.text(random)[:200].encode("utf-8", "surrogatepass"), safe="")
        if "{" in path:
            path = path[: path.index("{")] + word + path[path.index("}") + 1 :]
        name = random.choice(["limit", "after", "order", "purpose", "offset", "follow", "format", "api-version", "x"])
        value = random.choice(["", "-1", "9" * 30, "nan", "%ff%fe", "%00", "1e9", word])
        start = f"{method} {path}?{name}={value}&{name}={value} HTTP/1.1"
        # Events are told for as long as their job lives.
        return hostile_http.head(b"connection: close", b"content-length: 2", start=start.encode()) + b"{}"


#: Of all dialects, for bodies that have them although they should not.
_FIELDS = [
    *("model", "input", "inputs", "query", "documents", "texts", "dimensions", "encoding_format", "output_dtype"),
    *("truncate", "normalize", "top_n", "top_k", "input_type", "task", "prompt_name", "late_chunking", "labels"),
    *("return_documents", "parameters", "modality", "messages", "embedding_types", "instruction", "raw_scores"),
]

#: Bodies of routes whose documentation has no examples.
_OTHER_POSTS: list[tuple[str, dict[str, Any]]] = [
    (
        "/v1/batches",
        {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "24h", "metadata": {"a": "b"}},
    ),
    ("/v1/jobs", {"model": "all-MiniLM-L6-v2", "webhook": {"url": "https://receiver.invalid/x"}, "priority": 1}),
    ("/v1/webhook_endpoints", {"url": "https://receiver.invalid/x", "event_types": ["batch.completed"], "name": "x"}),
    ("/v1/webhook_endpoints/x/rotate_secret", {"keep_old_secret_active_for_24_hours": True}),
    ("/v1/jobs/x/callbacks/replay", {"event_ids": ["evt_x"]}),
]


def _put(body: Any, random: Random) -> None:
    """Put the place of a value somewhere into a body."""
    while True:
        key = random.choice([*body]) if isinstance(body, dict) else random.randrange(len(body))
        inner = body[key]
        if not isinstance(inner, (dict, list)) or not inner or random.random() < 0.4:
            body[key] = _PLACE
            return
        body = inner


def _bulk(random: Random) -> bytes:
    """A stream of documents, or a file, that is none."""
    lines = [
        b'{"id":"a","text":"a mill"}',
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"text":1}',
        b'{"id":{},"text":"x"}',
        b"\xff\xfe",
        b"\0",
    ]
    lines += [b'{"text":%s}' % hostile_values.fragment(random) for _ in range(5)]
    random.shuffle(lines)
    stream = b"\n".join(lines)
    boundary = random.choice([b"mill", b"", b"-" * 500, b"\xff"])
    part = b'content-disposition: form-data; name="file"; filename="%s"' % random.choice(
        [b"a", b"../a\0", b"\xff" * 300]
    )
    form = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (boundary, part, stream, boundary)
    kind = b"content-type: multipart/form-data; boundary=" + boundary
    return random.choice(
        [
            post("/v1/ingest", stream, _NDJSON),
            post("/v1/ingest", stream, _NDJSON, b"accept: application/x-ndjson"),
            post("/v1/ingest?model=nobodys&priority=x", stream, _NDJSON),
            post("/v1/ingest", random.randbytes(300), _NDJSON, b"content-encoding: gzip"),
            post("/v1/ingest", gzip.compress(stream)[:-5], _NDJSON, b"content-encoding: gzip"),
            post("/v1/jobs/nobodys/documents", stream, _NDJSON),
            post("/v1/ingest", form, kind),
            post("/v1/files", form, kind),
            post("/v1/files", form[: random.randrange(len(form))], kind),
            post("/v1/files", stream, b"content-type: multipart/form-data"),
        ]
    )


def _large() -> list[Hostile]:
    """The large ones: few, because they cost time to make and to send."""
    word = b"a" * 10_000_000
    hundred_thousand = json.dumps(["a"] * 100_000).encode()
    bodies = {
        "a word of 10 MB": [("/embed", b'{"inputs":"%s"}' % word), ("/v1/embeddings", b'{"input":["%s"]}' % word)],
        "a query of 10 MB": [
            ("/rerank", b'{"query":"%s","texts":["x"]}' % word),
            ("/v1/rerank", b'{"query":"x","documents":["%s"]}' % word),
        ],
        "100,000 items": [
            ("/embed", b'{"inputs":%s}' % hundred_thousand),
            ("/v1/rerank", b'{"query":"x","documents":%s}' % hundred_thousand),
            ("/v1/embeddings", b'{"input":%s}' % json.dumps([[1]] * 100_000).encode()),
            ("/v2/embed", b'{"texts":%s}' % hundred_thousand),
        ],
        "deep JSON": [
            ("/embed", b'{"inputs":' + b"[" * 1_000_000),
            ("/rerank", b'{"a":' * 200_000),
            ("/vertex", b"[" * 200_000 + b"]" * 200_000),
        ],
        "a large body with lone surrogates": [("/embed", b'{"inputs":["' + rb"\ud800" * 60_000 + b'"]}')],
        "a large body that is no UTF-8": [("/embed", b'{"inputs":["' + b"\xff\xfe" * 200_000 + b'"]}')],
        "a large body with NUL": [("/v1/embeddings", b'{"input":["' + rb"\u0000" * 60_000 + b'"]}')],
        "a large number": [("/embed", b'{"inputs":"x","dimensions":' + b"9" * 400_000 + b"}")],
        "zero-width joins": [("/embed", json.dumps({"inputs": "\u200d" * 100_000}).encode())],
        "many keys": [("/embed", json.dumps({f"key {number}": number for number in range(50_000)}).encode())],
    }
    return [Hostile(name, (post(path, body, _JSON),)) for name, several in bodies.items() for path, body in several]

"""What a client file declares: its surfaces, the ways of asking it for vectors or for ranks. Standard library only.

This module is imported in the clients' own environments (as `surfaces`, from this folder), never in the project's.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Vectors = list[list[float]]
#: Of each document that came back: its place among the documents, and its score; best first.
Ranks = list[tuple[int, float]]


@dataclass(frozen=True)
class Surface:
    """One way of using a client, a row of the matrix."""

    name: str
    kind: Literal["embed", "rerank"]
    call: Callable[..., Any]
    #: Cases that do not exist for it, by name, each with the reason.
    without: Mapping[str, str] = field(default_factory=dict)
    #: Cases in which the client itself swallows or garbles the service's error, each with what it does instead.
    hides: Mapping[str, str] = field(default_factory=dict)
    #: What becomes of an over-long input by what the client sends.
    too_long: Literal["cut", "refused"] = "cut"
    #: The first words of the over-long input, where the client cuts it by itself and shorter than the model does.
    reads: str = ""
    #: What the service is told to put in front of each text.
    prefix: str = ""
    #: Whether the client asks for vectors of unit length.
    normalized: bool = True
    #: Whether the client tries again after 429 and 503, and waits as long as `Retry-After` says.
    waits: bool = False

    def described(self) -> dict[str, Any]:
        """Everything but the function, for the runner."""
        return {name: value for name, value in asdict(self).items() if name != "call"}


#: In the order of their definition.
SURFACES: list[Surface] = []


def embeds(name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function `(url, model, key, texts) -> Vectors`."""
    return _declares("embed", name, facts)


def reranks(name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function `(url, model, key, query, documents, top_n) -> Ranks`; `top_n` None asks for all."""
    return _declares("rerank", name, facts)


def _declares(
    kind: Literal["embed", "rerank"], name: str, facts: Mapping[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def declare(call: Callable[..., Any]) -> Callable[..., Any]:
        SURFACES.append(Surface(name=name, kind=kind, call=call, **facts))
        return call

    return declare


class Refused(Exception):
    """An answer of another status than 200 to a recorded request."""

    def __init__(self, status: int, body: str) -> None:
        self.status_code = status
        self.body = body
        super().__init__(f"status {status}: {body}")


def ask(
    url: str,
    body: Mapping[str, Any] | None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
) -> Any:
    """Send a recorded request (GET without a body) as a product does that is not a Python package, and parse the answer.

    Raises:
        Refused: The status is not 200.
    """
    given = {"content-type": "application/json", **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given), timeout=timeout_s) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode()) from None


def setting(text: str, name: str, *, url: str, model: str = "", key: str = "") -> str:
    """The value that a product reads from the settings that its page shows, with the placeholders filled in."""
    filled = text.replace("{url}", url).replace("{model}", model).replace("{key}", key)
    found = re.search(rf"(?m)\b{re.escape(name)}\b[\"']?\s*[:=]\s*[\"']?([^\s\"',]+)", filled)
    if found is None:
        raise KeyError(f"the settings have no {name}")
    return found[1]


def ranked_by_text(answered: Sequence[tuple[str, float]], documents: Sequence[str]) -> Ranks:
    """Ranks, of a client that gives texts and scores without their places."""
    return [(list(documents).index(text), score) for text, score in answered]

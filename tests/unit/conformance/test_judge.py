"""The judge of the conformance suite: what must not pass, does not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conformance.cases import CASES, QUERY
from tests.conformance.judge import Outcome, Verdict, judge

BY_NAME = {case.name: case for case in CASES}


class Numbers:
    """A reference without a model: a vector from a text's letters."""

    def vectors(self, texts: Sequence[str], *, normalized: bool = True) -> npt.NDArray[np.float32]:
        rows = np.array([[len(text), sum(map(ord, text)) % 97, len(set(text)), 1] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalized else rows

    def scores(self, query: str, documents: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.vectors(documents) @ self.vectors([query])[0]


def surface(**facts: Any) -> dict[str, Any]:
    common = {
        "kind": "embed",
        "without": {},
        "hides": {},
        "too_long": "cut",
        "reads": "",
        "prefix": "",
        "normalized": True,
    }
    return {**common, "waits": False, **facts}


def verdict(
    name: str, facts: dict[str, Any], answer: dict[str, Any], tries: int | None = None, seconds: float = 0.0
) -> Verdict:
    return judge(BY_NAME[name], facts, Outcome(answer, tries, seconds), Numbers())


def vectors(name: str, **options: bool) -> list[list[float]]:
    rows: list[list[float]] = Numbers().vectors(BY_NAME[name].texts, **options).tolist()
    return rows


def ranks(name: str) -> list[tuple[int, float]]:
    scores = Numbers().scores(QUERY, BY_NAME[name].texts)
    return [(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")]


def error(text: str, status: int | None = None) -> dict[str, Any]:
    return {"error": {"text": text, "status": status}}


@pytest.mark.parametrize(
    ("name", "word"),
    [("one", "ok"), ("many", "ok"), ("over-long", "cut"), ("any key", "accepted"), ("right key", "ok")],
)
def test_the_references_vectors_pass(name: str, word: str) -> None:
    assert verdict(name, surface(), {"result": vectors(name)}) == Verdict(word)


def test_vectors_of_another_text_fail() -> None:
    swapped = vectors("many")
    swapped[3], swapped[4] = swapped[4], swapped[3]

    assert "vector 3" in verdict("many", surface(), {"result": swapped}).failure


@pytest.mark.parametrize("spoilt", [lambda rows: rows[:-1], lambda rows: [row[:-1] for row in rows]])
def test_too_few_vectors_and_too_few_dimensions_fail(spoilt: Any) -> None:
    assert verdict("many", surface(), {"result": spoilt(vectors("many"))}).failure


def test_a_difference_beyond_the_tolerance_fails() -> None:
    rows = vectors("one")
    rows[0][0] += 3e-5

    assert "away from the reference" in verdict("one", surface(), {"result": rows}).failure


def test_a_client_that_asks_for_vectors_as_they_are_must_get_them_so() -> None:
    raw = {"result": vectors("one", normalized=False)}

    assert not verdict("one", surface(normalized=False), raw).failure
    assert verdict("one", surface(), raw).failure


def test_a_client_that_cuts_by_itself_is_held_to_its_own_cut() -> None:
    rows = vectors("over-long")
    rows[0] = Numbers().vectors(["water water"]).tolist()[0]

    assert not verdict("over-long", surface(reads="water water"), {"result": rows}).failure
    assert verdict("over-long", surface(), {"result": rows}).failure


def test_a_client_whose_prefix_goes_missing_fails() -> None:
    rows = Numbers().vectors([f"passage: {text}" for text in BY_NAME["many"].texts]).tolist()

    assert not verdict("many", surface(prefix="passage: "), {"result": rows}).failure
    assert verdict("many", surface(prefix="passage: "), {"result": vectors("many")}).failure


def test_the_references_ranks_pass_and_top_n_are_the_best() -> None:
    best = ranks("top_n")

    assert not verdict("many", surface(kind="rerank"), {"result": best}).failure
    assert not verdict("top_n", surface(kind="rerank"), {"result": best[:3]}).failure


@pytest.mark.parametrize(
    ("words", "spoilt"),
    [
        ("ranks, not 3", lambda best: best),
        ("better documents were left out", lambda best: [*best[:2], best[-1]]),
        ("not sorted", lambda best: best[:3][::-1]),
        ("places", lambda best: [best[0], best[0], best[1]]),
        ("away from the reference", lambda best: [(best[0][0], best[0][1] + 0.01), *best[1:3]]),
    ],
)
def test_wrong_ranks_fail(words: str, spoilt: Any) -> None:
    assert words in verdict("top_n", surface(kind="rerank"), {"result": spoilt(ranks("top_n"))}).failure


def test_an_error_where_numbers_are_expected_fails_with_its_words() -> None:
    assert "KeyError: 'data'" in verdict("one", surface(), error("KeyError: 'data'")).failure


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("wrong model", error("model 'no-such-model' is not served here; served models: x")),
        ("wrong key", error("AuthenticationError", 401)),
        ("no key", error("Unauthorized: an API key is needed and none was sent")),
        ("429", error("RateLimitError", 429)),
        ("429", error("0 inputs are waiting already and 1 is the most")),
        ("503", error("Server Error: 503")),
    ],
)
def test_an_error_passes_when_it_shows(name: str, shown: dict[str, Any]) -> None:
    assert not verdict(name, surface(), shown, tries=1).failure


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("wrong model", error("APIError: calling no-such-model failed", 404)),  # the client's words, not the service's
        ("wrong model", {"result": vectors("wrong model")}),
        ("wrong key", {"result": vectors("wrong key")}),
        ("no key", {"result": vectors("no key")}),
        ("429", error("KeyError: 'results'")),
        ("429", error("Server Error: 503", 503)),
        ("503", {"result": []}),
    ],
)
def test_an_error_fails_when_it_does_not_show(name: str, shown: dict[str, Any]) -> None:
    assert "does not show" in verdict(name, surface(), shown, tries=1).failure


def test_an_error_that_never_reached_the_service_fails() -> None:
    assert "no request reached" in verdict("429", surface(), error("RateLimitError", 429), tries=0).failure


def test_a_client_may_send_nothing_without_a_key_and_say_so() -> None:
    assert verdict("no key", surface(), error("the api_key must be set"), tries=0) == Verdict("needs one")
    assert verdict("no key", surface(), {"result": []}, tries=0).failure
    assert verdict("wrong key", surface(), error("the api_key must be set"), tries=0).failure


def test_nobody_waits_after_a_refused_key() -> None:
    assert not verdict("wrong key", surface(waits=True), error("status 401", 401), tries=1).failure


def test_an_error_that_is_declared_as_hidden_must_be() -> None:
    hides = surface(hides={"429": "raises a KeyError"})

    assert verdict("429", hides, error("KeyError: 'results'"), tries=1) == Verdict("hidden", note="raises a KeyError")
    assert "but it is shown" in verdict("429", hides, error("status 429", 429), tries=1).failure


@pytest.mark.parametrize(("tries", "seconds", "passes"), [(3, 2.0, True), (3, 1.1, False), (1, 5.0, False)])
def test_a_client_that_waits_has_to_wait_as_long_as_it_was_told(tries: int, seconds: float, passes: bool) -> None:
    answered = verdict("503", surface(waits=True), error("status 503", 503), tries=tries, seconds=seconds)

    assert (not answered.failure) is passes


def test_an_over_long_input_that_the_client_wants_refused_has_to_be() -> None:
    refuses = surface(too_long="refused")

    assert not verdict("over-long", refuses, error("input 0 has 1002 tokens and m takes 256")).failure
    assert verdict("over-long", refuses, {"result": vectors("over-long")}).failure
    assert verdict("over-long", refuses, error("ValueError: no such thing")).failure

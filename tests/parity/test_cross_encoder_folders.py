"""What a folder says of itself is taken from it as sentence-transformers' `CrossEncoder` takes it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from shared.errors import WrongTask
from shared.model_config import ConfigurationError
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import DIMENSIONS, cross_encoder, embedding_model
from tests.helpers.tiny_rerankers import MAX_TOKENS, TEMPLATES, causal_reranker, tokenizer

TOLERANCE = 1e-5
QUERY = "what turns the wheel?"
PAIRS = [(QUERY, text) for text in TEXTS]
LABELS = ("negative", "neutral", "positive")
_TORCH = "torch.nn.modules"
SIGMOID, SOFTMAX = f"{_TORCH}.activation.Sigmoid", f"{_TORCH}.activation.Softmax"
IDENTITY, TANH = f"{_TORCH}.linear.Identity", f"{_TORCH}.activation.Tanh"


def _edit(path: Path, **changes: Any) -> None:
    """Change a JSON file; what becomes None is left out."""
    described = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in described.items() if value is not None}))


def _named(
    folder: Path, where: str, activation: str, *, labels: tuple[str, ...], problem_type: str | None = None
) -> Path:
    """A tiny BERT whose folder names an activation in one of the places there have been."""
    path = cross_encoder(folder / "bare", "bert", labels=labels, problem_type=problem_type)
    match where:
        case "before version 4":
            _edit(path / "config.json", sbert_ce_default_activation_function=activation)
        case "since version 4":
            _edit(path / "config.json", sentence_transformers={"activation_fn": activation, "version": "4.0.1"})
        case "since version 5.4":
            path = folder / "saved"
            CrossEncoder(str(folder / "bare"), device="cpu").save_pretrained(str(path), create_model_card=False)
            _edit(path / "config_sentence_transformers.json", activation_fn=activation)
    return path


PLACES = ("before version 4", "since version 4", "since version 5.4")
each_place = pytest.mark.parametrize("where", PLACES)


def _predicted(folder: Path, **options: Any) -> npt.NDArray[np.float32]:
    reference = CrossEncoder(str(folder), device="cpu")
    return np.asarray(reference.predict(PAIRS, batch_size=1, show_progress_bar=False, **options), np.float32)


def _close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=TOLERANCE, rtol=1e-5)


@each_place
def test_logits_are_what_a_reranker_that_names_identity_gives_on_request(tmp_path: Path, where: str) -> None:
    # Given what the ms-marco MiniLM models name
    folder = _named(tmp_path, where, IDENTITY, labels=("LABEL_0",))
    served, logits = Served(folder), _predicted(folder)
    assert logits.min() < 0 or logits.max() > 1  # the reference gives logits

    # Then
    _close(served.rerank(QUERY, TEXTS, raw_scores=True), logits)
    _close(served.rerank(QUERY, TEXTS), torch.from_numpy(logits).sigmoid())


@each_place
def test_a_reranker_that_names_the_sigmoid_gives_the_references_scores(tmp_path: Path, where: str) -> None:
    folder = _named(tmp_path, where, SIGMOID, labels=("LABEL_0",))

    _close(Served(folder).rerank(QUERY, TEXTS), _predicted(folder))


def test_a_reranker_that_names_nothing_gives_the_references_scores(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "bert")

    _close(Served(folder).rerank(QUERY, TEXTS), _predicted(folder))


@pytest.mark.parametrize("activation", [TANH, SOFTMAX, "my_code.Activation"])
def test_no_other_activation_takes_a_rerankers_scores_out_of_0_to_1_or_out_of_order(
    tmp_path: Path, activation: str
) -> None:
    folder = _named(tmp_path, "since version 5.4", activation, labels=("LABEL_0",))
    served, logits = Served(folder), _predicted(folder, activation_fn=torch.nn.Identity())

    _close(served.rerank(QUERY, TEXTS), torch.from_numpy(logits).sigmoid())
    _close(served.rerank(QUERY, TEXTS, raw_scores=True), logits)
    _close(served.classify([QUERY] * len(TEXTS), TEXTS)[:, 0], torch.from_numpy(logits).sigmoid())


@each_place
@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
@pytest.mark.parametrize("activation", [SIGMOID, SOFTMAX])
def test_several_labels_have_the_activation_that_is_named(
    tmp_path: Path, where: str, problem_type: str | None, activation: str
) -> None:
    folder = _named(tmp_path, where, activation, labels=LABELS, problem_type=problem_type)
    served = Served(folder)

    # Then: the reference's softmax finds its dimension with a warning
    function = torch.nn.Sigmoid() if activation == SIGMOID else torch.nn.Softmax(dim=1)
    queries, documents = zip(*PAIRS, strict=True)
    assert served.card.activation == ("sigmoid" if activation == SIGMOID else "softmax")
    assert type(CrossEncoder(str(folder), device="cpu").activation_fn) is type(function)
    _close(served.classify(queries, documents), _predicted(folder, activation_fn=function))


@each_place
@pytest.mark.parametrize(
    ("problem_type", "function"),
    [(None, torch.nn.Softmax(dim=1)), ("multi_label_classification", torch.nn.Sigmoid())],
    ids=["one of them", "any of them"],
)
@pytest.mark.parametrize("activation", [IDENTITY, TANH])
def test_several_labels_whose_activation_gives_no_probabilities_have_those_of_their_problem_type(
    tmp_path: Path, where: str, problem_type: str | None, function: Any, activation: str
) -> None:
    folder = _named(tmp_path, where, activation, labels=LABELS, problem_type=problem_type)
    served = Served(folder)

    queries, documents = zip(*PAIRS, strict=True)
    _close(served.classify(queries, documents), _predicted(folder, activation_fn=function))
    logits = _predicted(folder, activation_fn=torch.nn.Identity())
    _close(served.classify(queries, documents, raw_scores=True), logits)


@pytest.mark.parametrize("labels", [("a", "b"), LABELS])
def test_labels_without_names_are_numbered(tmp_path: Path, labels: tuple[str, ...]) -> None:
    # Given: two labels are transformers' default, more are stated
    folder = cross_encoder(tmp_path, "bert", labels=labels)
    _edit(folder / "config.json", id2label=None, label2id=None, num_labels=len(labels) if len(labels) > 2 else None)

    # When
    served = Served(folder)

    # Then
    assert served.card.labels == [f"LABEL_{index}" for index in range(len(labels))]
    assert served.classify(TEXTS[:2]).shape == (2, len(labels))


def test_labels_that_do_not_count_from_0_are_numbered(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "bert", labels=LABELS)
    _edit(folder / "config.json", id2label={"1": "one", "2": "two", "3": "three"})

    assert Served(folder).card.labels == ["LABEL_0", "one", "two"]


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "qwen3", "deberta-v2"])
def test_a_saved_cross_encoder_has_the_references_scores_with_its_prompt(tmp_path: Path, name: str) -> None:
    # Given
    cross_encoder(tmp_path / "bare", name)
    made = CrossEncoder(str(tmp_path / "bare"), prompts={"web": "web: "}, default_prompt_name="web", device="cpu")
    made.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert (tmp_path / "saved" / "modules.json").exists()

    # When
    served = Served(tmp_path / "saved")

    # Then: with a short query, for the reference would cut a longer one
    pairs = [("mill", text) for text in TEXTS]
    expected, without = (
        CrossEncoder(str(tmp_path / folder), device="cpu").predict(pairs, batch_size=1, show_progress_bar=False)
        for folder in ("saved", "bare")
    )
    assert (served.card.model_type, served.card.operations) == ("reranker", ["rerank", "classify"])
    assert served.card.prompts == ["web"]
    _close(served.rerank("mill", TEXTS), expected)
    _close(served.classify(["mill"] * len(TEXTS), TEXTS)[:, 0], expected)
    assert np.abs(expected - without).max() > 10 * TOLERANCE


def test_an_instruction_is_the_prompt_of_a_model_that_has_prompts(tmp_path: Path) -> None:
    # Given
    cross_encoder(tmp_path / "bare", "bert")
    made = CrossEncoder(str(tmp_path / "bare"), prompts={"web": "web: ", "none": ""}, device="cpu")
    made.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    pairs = [("mill", text) for text in TEXTS]

    # When
    served, without = Served(tmp_path / "saved"), Served(tmp_path / "bare")

    # Then
    expected = made.predict(pairs, prompt="web: ", batch_size=1, show_progress_bar=False)
    assert (served.card.prompts, without.card.prompts) == (["web"], [])
    _close(served.rerank("mill", TEXTS, instruction="web: "), expected)
    plain = made.predict(pairs, batch_size=1, show_progress_bar=False)
    _close(served.rerank("mill", TEXTS), plain)
    _close(without.rerank("mill", TEXTS, instruction="web: "), plain)
    assert np.abs(expected - plain).max() > 10 * TOLERANCE


def test_a_card_names_the_prompts_of_a_chat_template_too(tmp_path: Path) -> None:
    folder = _templated(tmp_path, "instructed")
    _edit(folder / "config_sentence_transformers.json", prompts={"web": "find pages"}, default_prompt_name="web")
    served = Served(folder)

    assert served.card.prompts == ["web"]
    _close(served.rerank(QUERY, TEXTS), CrossEncoder(str(folder), device="cpu").predict(PAIRS, show_progress_bar=False))


@pytest.mark.parametrize(
    ("name", "pooling", "labels"),
    [("xlm-roberta", "cls", 1), ("xlm-roberta", "mean", 3), ("qwen3", "lasttoken", 1), ("deberta-v2", "max", 1)],
)
def test_scores_that_modules_make_are_the_references(tmp_path: Path, name: str, pooling: Any, labels: int) -> None:
    # Given an encoder without a head of its own
    embedding_model(tmp_path, name)
    torch.manual_seed(3)
    modules = [
        Transformer(str(tmp_path / "bare")),
        Pooling(DIMENSIONS, pooling),
        Dense(DIMENSIONS, 20),
        Dense(20, labels, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    CrossEncoder(modules=modules, device="cpu").save_pretrained(str(tmp_path / "saved"), create_model_card=False)

    # When
    served = Served(tmp_path / "saved")

    # Then
    logits = _predicted(tmp_path / "saved", activation_fn=torch.nn.Identity())
    assert served.card.packed == (name != "deberta-v2")
    assert served.card.labels == [f"LABEL_{index}" for index in range(labels)]
    if labels == 1:
        _close(served.rerank(QUERY, TEXTS, raw_scores=True), logits)
        _close([served.rerank(QUERY, [text], raw_scores=True)[0] for text in TEXTS], logits)
    else:
        queries, documents = zip(*PAIRS, strict=True)
        _close(served.classify(queries, documents, raw_scores=True), logits)


def test_modules_of_other_kinds_are_refused(tmp_path: Path) -> None:
    embedding_model(tmp_path, "bert")
    pooling = Pooling(DIMENSIONS, "mean", include_prompt=False)
    dense = Dense(DIMENSIONS, 1, module_output_name="scores")
    made = CrossEncoder(modules=[Transformer(str(tmp_path / "bare")), pooling, Normalize(), dense], device="cpu")
    made.save_pretrained(str(tmp_path / "saved"), create_model_card=False)

    with pytest.raises(ConfigurationError, match="this kind of cross-encoder is not supported"):
        Served(tmp_path / "saved")


def _templated(folder: Path, template: str, *, saved: bool = True) -> Path:
    """A classifier made of Qwen3, with a chat template."""
    path = causal_reranker(folder, "qwen3-classifier").rename(folder / "bare")
    spoken = tokenizer()
    spoken.chat_template = TEMPLATES.get(template, template)
    spoken.save_pretrained(path)
    if not saved:
        return path
    CrossEncoder(str(path), device="cpu").save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "bare"])
@pytest.mark.parametrize("template", ["instructed", "trimmed", "any role"])
def test_a_classifier_with_a_chat_template_has_the_references_scores(
    tmp_path: Path, template: str, saved: bool
) -> None:
    folder = _templated(tmp_path, template, saved=saved)
    reference = CrossEncoder(str(folder), device="cpu")
    documents = [*TEXTS, "", *("mill " * count for count in (50, 100, 200, 900))]

    # When
    served = Served(folder)

    # Then
    assert (served.card.packed, served.card.max_tokens) == (True, MAX_TOKENS)
    assert served.card.operations == ["rerank"]
    for options in ({}, {"instruction": "find what contradicts it"}):
        prompt = options.get("instruction") if template != "trimmed" else None
        expected = reference.predict([(QUERY, text) for text in documents], prompt=prompt, show_progress_bar=False)
        _close(served.rerank(QUERY, documents, **options), expected)
        _close([served.rerank(QUERY, [text], **options)[0] for text in documents], expected)
    with pytest.raises(WrongTask, match="does not classify; it does: rerank"):
        served.classify(["a text"])


CONVERSATION = "{% for m in messages if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def test_a_bare_classifier_with_a_template_for_conversations_reads_pairs_as_they_are(tmp_path: Path) -> None:
    # Given a folder that the reference cannot score with at all
    folder = _templated(tmp_path, CONVERSATION, saved=False)
    with pytest.raises(ValueError, match="cannot carry a 'query'/'document' pair"):
        CrossEncoder(str(folder), device="cpu").predict(PAIRS, show_progress_bar=False)

    # When
    scores = Served(folder).rerank(QUERY, TEXTS)

    # Then
    without = tokenizer()
    without.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    _close(scores, _predicted(folder))


def test_a_saved_classifier_with_a_template_for_conversations_is_refused(tmp_path: Path) -> None:
    folder = _templated(tmp_path, CONVERSATION)

    with pytest.raises(ConfigurationError, match="its chat template is not one for pairs here"):
        Served(folder)

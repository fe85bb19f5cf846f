"""Language models that rerank give the published procedures' scores, alone, in any company, with shared prefixes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from shared.errors import InputTooLong
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_rerankers import MAX_TOKENS, MODELS, causal_reranker
from workers.families.causal_reranker import PLUGIN

TOLERANCE = 1e-5
QUERY = "what turns the wheel?"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class Reference:
    """The model cards' procedures, one pair at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._name = name
        loader = AutoModelForSequenceClassification if name == "qwen3-classifier" else AutoModelForCausalLM
        self._model: Any = loader.from_pretrained(folder).eval()

    def ids(self, query: str, document: str, instruction: str | None = None) -> list[int]:
        """What the model reads."""
        build = {"mxbai": self._mxbai, "gemma": self._bge, "gemma2": self._bge}.get(self._name, self._qwen3)
        return build(query, document, instruction)

    @torch.inference_mode()
    def logit(self, ids: list[int]) -> float:
        """The raw score."""
        logits = self._model(input_ids=torch.tensor([ids])).logits
        if self._name == "qwen3-classifier":
            return float(logits[0, 0])
        last = logits[0, -1].double()
        if self._name == "mxbai":
            one, zero = (self.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("1", "0"))
            return float(last[one] - last[zero])
        if self._name.startswith("gemma"):
            return float(last[self.tokenizer.convert_tokens_to_ids("Yes")])
        no, yes = (self.tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
        # Qwen's card takes the softmax over both; its log odds are their difference.
        probability = torch.stack([last[no], last[yes]]).log_softmax(dim=0)[1].exp()
        return float(torch.logit(probability))

    def scores(self, query: str, documents: list[str], **options: Any) -> npt.NDArray[np.float32]:
        """Scores between 0 and 1."""
        raw = [self.logit(self.ids(query, document, **options)) for document in documents]
        return torch.tensor(raw, dtype=torch.float64).sigmoid().float().numpy()

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _qwen3(self, query: str, document: str, instruction: str | None) -> list[int]:
        prefix = self._plain(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        )
        suffix = self._plain("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
        body = self._plain(f"<Instruct>: {instruction or INSTRUCTION}\n<Query>: {query}\n<Document>: {document}")
        return prefix + body[: MAX_TOKENS - len(prefix) - len(suffix)] + suffix

    def _mxbai(self, query: str, document: str, instruction: str | None) -> list[int]:
        system = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        task = (
            "You are a search relevance expert who evaluates how well documents match search queries. For each "
            "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
            "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
        )
        asked = f"query: {query}" if instruction is None else f"instruction: {instruction}\nquery: {query}"
        before = self._plain(f"{system}<|im_start|>user\n") + self._plain(asked) + self._plain("\n")
        after = self._plain("\n") + self._plain(task) + self._plain("<|im_end|>\n<|im_start|>assistant\n")
        return before + self._plain(f"document: {document}")[: MAX_TOKENS - len(before) - len(after)] + after

    def _bge(self, query: str, document: str, instruction: str | None) -> list[int]:
        question = (
            "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
            "a prediction of either 'Yes' or 'No'."
        )
        before = self._plain("<bos>") + self._plain(f"A: {query}") + self._plain("\n")
        after = self._plain("\n") + self._plain(question)
        return before + self._plain(f"B: {document}")[: MAX_TOKENS - len(before) - len(after)] + after


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as its card says."""

    name: str
    served: Served
    reference: Reference


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = causal_reranker(tmp_path_factory.mktemp("rerank"), request.param)
    return Pair(request.param, Served(folder), Reference(folder, request.param))


def _close(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)


def test_the_card_says_that_it_reranks(pair: Pair) -> None:
    card = pair.served.card

    assert (card.operations, card.model_type, card.scoring, card.packed) == (["rerank"], "reranker", "logit", True)
    assert card.max_tokens == MAX_TOKENS


def test_the_tiny_model_tells_documents_and_queries_apart(pair: Pair) -> None:
    # Given: otherwise agreement would prove nothing
    scores = [*pair.reference.scores(QUERY, ["the river", "a letter"]), *pair.reference.scores("what?", ["the river"])]

    assert min(abs(a - b) for i, a in enumerate(scores) for b in scores[:i]) > 10 * TOLERANCE


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_documents_have_the_references_scores(pair: Pair, together: bool) -> None:
    expected = pair.reference.scores(QUERY, TEXTS)

    groups = [TEXTS] if together else [[text] for text in TEXTS]
    _close(np.concatenate([pair.served.rerank(QUERY, group) for group in groups]), expected)


def test_raw_scores_are_the_references_logits(pair: Pair) -> None:
    expected = [pair.reference.logit(pair.reference.ids(QUERY, document)) for document in TEXTS]

    np.testing.assert_allclose(pair.served.rerank(QUERY, TEXTS, raw_scores=True), expected, atol=1e-4)


def test_a_document_that_is_too_long_is_cut_and_the_template_kept(pair: Pair) -> None:
    documents = ["mill " * count for count in (90, 120, 200, 400, 900)]

    _close(pair.served.rerank(QUERY, documents), pair.reference.scores(QUERY, documents))


def test_a_query_that_leaves_no_room_is_refused(pair: Pair) -> None:
    with pytest.raises(InputTooLong, match=f"the query alone fills the {MAX_TOKENS} tokens"):
        pair.served.rerank("mill " * MAX_TOKENS, ["a"])


def test_places_named_in_a_text_are_not_filled_in(pair: Pair) -> None:
    documents = ["{query}", "{document} {instruction}"]

    _close(pair.served.rerank("{document}?", documents), pair.reference.scores("{document}?", documents))


def test_queries_that_share_a_batch_do_not_touch_each_other(pair: Pair) -> None:
    # Given what a worker does when requests share a batch
    queries = [QUERY, "x", "Привет"]
    tokens = [entry for query in queries for entry in pair.served.tokenizer.encode_template(query, TEXTS[:6], None)]

    # When
    logits = pair.served.forward(tokens, [Kind.SCORES])[Kind.SCORES].values[:, 0]

    # Then
    expected = [pair.reference.logit(pair.reference.ids(query, text)) for query in queries for text in TEXTS[:6]]
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "qwen3-classifier", "mxbai"])
def test_an_instruction_takes_its_place_in_the_template(tmp_path: Path, name: str) -> None:
    folder = causal_reranker(tmp_path, name)
    instruction = "Find what contradicts the query"

    scores = Served(folder).rerank(QUERY, TEXTS, instruction=instruction)

    expected = Reference(folder, name).scores(QUERY, TEXTS, instruction=instruction)
    _close(scores, expected)
    assert np.abs(expected - Reference(folder, name).scores(QUERY, TEXTS)).max() > 10 * TOLERANCE


def test_only_the_models_own_folder_or_repository_says_that_it_reranks() -> None:
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
    cached = Path("/cache/hub/models--Qwen--Qwen3-Reranker-0.6B/snapshots/1a2b")

    assert PLUGIN.serves(cached, config)
    assert PLUGIN.serves(Path("/models/my-Reranker"), config)
    assert not PLUGIN.serves(Path("/srv/rerank-service/models/qwen3-embedder"), config)


@pytest.mark.parametrize(("name", "other"), [("mxbai", "lb-reranker-0.5B"), ("qwen3", "ctxl-rerank-v2")])
def test_a_reranker_that_nobody_knows_is_not_asked_by_anothers_template(tmp_path: Path, name: str, other: str) -> None:
    renamed = causal_reranker(tmp_path, name).rename(tmp_path / other)

    with pytest.raises(ConfigurationError, match=rf'"{name}" in it; if it was trained on the same one, name `family'):
        Served(renamed)
    assert Served(renamed, family="causal_reranker").card.model_type == "reranker"


def test_a_folder_with_another_name_is_a_reranker_when_the_configuration_says_so(tmp_path: Path) -> None:
    # Given
    folder = causal_reranker(tmp_path, "qwen3")
    renamed = folder.rename(tmp_path / "my-model")

    # Then
    assert Served(renamed, family="causal_reranker").card.model_type == "reranker"
    assert ModelConfig(name="m", source="s").family is None

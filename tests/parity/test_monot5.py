"""T5 that reranks gives the scores of monoT5's published procedure, alone, in any company, long and short."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoTokenizer

from shared.errors import InputTooLong
from shared.model_config import ConfigurationError, ModelConfig
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_monot5 import MAX_TOKENS, MODELS, monot5
from workers.families.monot5 import PLUGIN

TOLERANCE = 1e-5
QUERY = "what turns the wheel?"


class Reference:
    """`MonoT5.rescore` of pygaggle, one pair at a time, with the document cut where all is too long together."""

    def __init__(self, folder: Path, words: tuple[str, str]) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._words = self._tokenizer.convert_tokens_to_ids(list(words))
        self._model: Any = MODELS[folder.name][0].from_pretrained(folder).eval()

    @torch.inference_mode()
    def log_odds(self, query: str, document: str) -> float:
        """How much likelier the word for is than the one against."""
        ids = self._tokenizer(f"Query: {query} Document: {document} Relevant:")["input_ids"]
        if len(ids) > MAX_TOKENS:
            ending = self._tokenizer("Relevant:")["input_ids"]
            ids = [*ids[: MAX_TOKENS - len(ending)], *ending]
        start = torch.tensor([[self._model.config.decoder_start_token_id]])
        logits = self._model(input_ids=torch.tensor([ids]), decoder_input_ids=start).logits[0, 0]
        against, in_favour = logits[self._words].double().log_softmax(dim=0)
        return float(in_favour - against)

    def scores(self, query: str, documents: list[str]) -> npt.NDArray[np.float32]:
        """Probabilities of the word for."""
        raw = [self.log_odds(query, document) for document in documents]
        return torch.tensor(raw, dtype=torch.float64).sigmoid().float().numpy()


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as it was published."""

    served: Served
    reference: Reference


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = monot5(tmp_path_factory.mktemp("monot5"), request.param)
    return Pair(Served(folder), Reference(folder, MODELS[request.param][2]))


def _close(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)


def test_the_card_says_that_it_reranks_packed(pair: Pair) -> None:
    card = pair.served.card

    assert (card.operations, card.model_type, card.scoring, card.packed) == (["rerank"], "reranker", "logit", True)
    assert card.max_tokens == MAX_TOKENS


def test_the_tiny_model_tells_documents_and_queries_apart(pair: Pair) -> None:
    # Given: otherwise agreement would prove nothing
    scores = [*pair.reference.scores(QUERY, ["the river", "a letter"]), *pair.reference.scores("what?", ["the river"])]

    assert min(abs(a - b) for i, a in enumerate(scores) for b in scores[:i]) > 10 * TOLERANCE


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_documents_have_the_procedures_scores(pair: Pair, together: bool) -> None:
    expected = pair.reference.scores(QUERY, TEXTS)

    groups = [TEXTS] if together else [[text] for text in TEXTS]
    _close(np.concatenate([pair.served.rerank(QUERY, group) for group in groups]), expected)


def test_raw_scores_are_the_log_odds(pair: Pair) -> None:
    expected = [pair.reference.log_odds(QUERY, document) for document in TEXTS]

    np.testing.assert_allclose(pair.served.rerank(QUERY, TEXTS, raw_scores=True), expected, atol=1e-4)


def test_a_document_that_is_too_long_is_cut_and_the_question_kept(pair: Pair) -> None:
    documents = ["mill " * count for count in (1, 20, 40, 60, 90, 400)]

    _close(pair.served.rerank(QUERY, documents), pair.reference.scores(QUERY, documents))


def test_a_query_that_leaves_no_room_is_refused(pair: Pair) -> None:
    with pytest.raises(InputTooLong, match=f"the query alone fills the {MAX_TOKENS} tokens"):
        pair.served.rerank("mill " * 300, ["a letter"])


T5: dict[str, Any] = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
MT5: dict[str, Any] = {"model_type": "mt5", "architectures": ["MT5ForConditionalGeneration"]}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("monot5-base-msmarco-10k", T5),
        ("InRanker-base", T5),
        ("ptt5-base-en-pt-msmarco-100k-v2", T5),
        ("mt5-base-mmarco-v2", MT5),
        ("mt5-3B-mmarco-en-pt", MT5),
        ("models--castorini--monot5-3b-msmarco/snapshots/abc", T5),
    ],
)
def test_published_models_are_told_by_their_names(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    assert PLUGIN.serves(tmp_path / name, config)


@pytest.mark.parametrize(
    "name",
    [
        *("flan-t5-base", "RankT5-base", "duot5-base-msmarco", "doc2query-t5-base-msmarco", "msmarco-t5-base-v1"),
        *("monoptt5-base", "frankfurt-t5", "models--frank--t5-base/snapshots/abc"),
    ],
)
def test_models_that_answer_otherwise_are_not_taken(tmp_path: Path, name: str) -> None:
    assert not PLUGIN.serves(tmp_path / name, T5)


def test_an_encoder_alone_does_not_answer(tmp_path: Path) -> None:
    assert not PLUGIN.serves(tmp_path / "monot5-base", {**T5, "architectures": ["T5EncoderModel"]})


def test_one_of_another_name_is_served_where_its_family_is_named(tmp_path: Path) -> None:
    folder = monot5(tmp_path, "monot5-tiny")
    expected = Served(folder).rerank(QUERY, TEXTS)

    served = Served(folder.rename(tmp_path / "ours"), family="monot5")

    np.testing.assert_allclose(served.rerank(QUERY, TEXTS), expected, atol=1e-6)


def test_a_vocabulary_without_the_words_is_refused(tmp_path: Path) -> None:
    folder = monot5(tmp_path, "monot5-tiny")
    tokenizer_json = folder / "tokenizer.json"
    tokenizer_json.write_text(tokenizer_json.read_text().replace("▁true", "▁treu"))

    with pytest.raises(ConfigurationError, match="its vocabulary has no '▁true'"):
        PLUGIN.load(ModelConfig(name="m", source=str(folder)), folder, torch.device("cpu"), torch.float32)

"""T5 that reranks gives the scores of monoT5's published procedure, alone, in any company, long and short."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import (
    AutoTokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from shared.errors import InputTooLong
from shared.model_config import ConfigurationError, ModelConfig
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import CORPUS, sharpen
from workers.families.monot5 import PLUGIN

TOLERANCE = 1e-5
MAX_TOKENS = 96
QUERY = "what turns the wheel?"
#: Folder, classes, the words against and for, and what is particular.
MODELS: dict[str, tuple[Any, Any, tuple[str, str], dict[str, Any]]] = {
    "monot5-tiny": (T5ForConditionalGeneration, T5Config, ("▁false", "▁true"), {}),
    # T5 1.1: a gated layer, and an output layer of its own whose input is not scaled.
    "InRanker-tiny": (
        T5ForConditionalGeneration,
        T5Config,
        ("▁false", "▁true"),
        {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    ),
    "mt5-tiny-mmarco": (MT5ForConditionalGeneration, MT5Config, ("▁no", "▁yes"), {}),
}


def _tokenizer() -> Any:
    """A unigram model in T5's class, which knows the words of template and answers."""
    trained = Tokenizer(Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator([*CORPUS, "Query: Document: Relevant:"], trainer)
    known = trained.get_vocab()
    words = [word for word in ("▁true", "▁false", "▁yes", "▁no") if word not in known]
    vocabulary = [(piece, -8.0) for piece in sorted(known, key=known.__getitem__)] + [(word, -4.0) for word in words]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=MAX_TOKENS)


def _model(parent: Path, name: str) -> Path:
    model_class, config_class, _, extra = MODELS[name]
    tokenizer = _tokenizer()
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
    buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
    ids = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}
    model = model_class(config_class(vocab_size=len(tokenizer), **sizes, **buckets, **ids, **extra)).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(parent / name)
    tokenizer.save_pretrained(parent / name)
    return parent / name


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
    folder = _model(tmp_path_factory.mktemp("monot5"), request.param)
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


def test_it_is_told_by_its_name(tmp_path: Path) -> None:
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}

    assert PLUGIN.serves(tmp_path / "monot5-base-msmarco", config)
    assert PLUGIN.serves(tmp_path / "mt5-base-mmarco-v2", {**config, "model_type": "mt5"})
    assert not PLUGIN.serves(tmp_path / "flan-t5-base", config)
    assert not PLUGIN.serves(tmp_path / "monot5-base", {**config, "architectures": ["T5EncoderModel"]})


def test_a_vocabulary_without_the_words_is_refused(tmp_path: Path) -> None:
    folder = _model(tmp_path, "monot5-tiny")
    tokenizer_json = folder / "tokenizer.json"
    tokenizer_json.write_text(tokenizer_json.read_text().replace("▁true", "▁treu"))

    with pytest.raises(ConfigurationError, match="its vocabulary has no '▁true'"):
        PLUGIN.load(ModelConfig(name="m", source=str(folder)), folder, torch.device("cpu"), torch.float32)

"""Folders that lack something, or hold something unusual: the reference's numbers, or one sentence and no start."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import CNN, Dense, Normalize, Pooling, Transformer
from transformers import AutoTokenizer

from shared.errors import InvalidRequest
from shared.model_config import ConfigurationError
from tests.helpers.texts import SENTENCES
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import MAX_TOKENS, cross_encoder, embedding_model, sharpen


def _configure(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _one_layer_more(folder: Path) -> None:
    _configure(folder, num_hidden_layers=4)


def _one_layer_less(folder: Path) -> None:
    _configure(folder, num_hidden_layers=2)


def _one_layer_less_than_a_masked_model_has(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    named = {f"bert.{name}": tensor for name, tensor in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    _one_layer_less(folder)


def _one_tensor_less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("layer.1.output.dense.weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _another_head(folder: Path) -> None:
    _configure(folder, architectures=["BertForSequenceClassification"])
    (folder / "modules.json").unlink()


def _no_tokenizer(folder: Path) -> None:
    for path in [*folder.glob("tokenizer*"), *folder.glob("vocab*")]:
        path.unlink()


def _another_width(folder: Path) -> None:
    _configure(folder, hidden_size=64)


def _other_words(folder: Path) -> None:
    _configure(folder, vocab_size=100)


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _another_dense(folder: Path) -> None:
    """A layer that takes wider vectors than it gets, after what makes sentences of tokens."""
    Dense(48, 16).save(str(folder / "2_Normalize"))
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (folder / "modules.json").write_text(json.dumps(modules))


def _other_positions(folder: Path) -> None:
    _configure(folder, position_embedding_type="alibi")


def _an_earlier_layer(folder: Path) -> None:
    path = folder / "sentence_bert_config.json"
    described = json.loads(path.read_text())
    described["modality_config"]["text"]["method_output_name"] = ["hidden_states", -2]
    path.write_text(json.dumps(described))


def _no_pooling(folder: Path) -> None:
    shutil.rmtree(folder / "1_Pooling")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            _an_earlier_layer,
            "method_output_name of text in its sentence_bert_config.json is of another layer than the last",
        ),
        (_one_layer_more, "its weights lack .* and 15 more, which BertModel needs"),
        (_one_tensor_less, r"its weights lack encoder\.layer\.1\.output\.dense\.weight, which BertModel needs"),
        (_one_layer_less, r"they have encoder\.layer\.2, and .* BertModel has 2 of them; .*save_pretrained"),
        (_one_layer_less_than_a_masked_model_has, r"they have bert\.encoder\.layer\.2, and .* has 2 of them"),
        (_another_head, "its weights lack classifier.bias"),
        (_another_width, r"its weights are not those of its config\.json: .* has shape \(32,\), and .* has \(64,\)"),
        (
            _other_words,
            r"embeddings\.word_embeddings\.weight has shape \(30522, 32\), and .* BertModel has \(100, 32\)",
        ),
        (_pickled, r"its weights are a pickle \(pytorch_model\.bin\), .* only safetensors are read .* docs/models\.md"),
        (_no_weights, r"no file named model\.safetensors"),
        (_another_dense, r"the modules of its modules\.json do not fit each other: .*48"),
        (_other_positions, r"position_embedding_type 'alibi' of its config\.json is not supported"),
        (_no_tokenizer, "it has no tokenizer"),
        (_no_pooling, "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot be loaded"),
        (lambda folder: (folder / "modules.json").write_text("[]"), "cannot be loaded"),
    ],
    ids=[
        *(
            "the last layer",
            "a layer",
            "a tensor",
            "a layer in config.json",
            "a layer there of a masked model",
            "a head",
            "a width",
            "words",
            "safetensors",
            "weights",
            "a fitting module",
        ),
        "positions",
        *("a tokenizer", "a module", "a configuration", "modules"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_made_up(
    tmp_path: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    folder = embedding_model(tmp_path, "bert")
    spoil(folder)

    with pytest.raises(ConfigurationError, match=sentence):
        Served(folder)


def test_layers_that_are_left_out_on_purpose_are_saved_as_the_sentence_says(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "bert")
    _one_layer_less(folder)
    SentenceTransformer(str(folder), device="cpu")[0].model.save_pretrained(folder)

    expected = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(Served(folder).embed(SENTENCES), expected, atol=1e-5)


def test_weights_that_an_encoder_has_no_use_for_are_passed_over(tmp_path: Path) -> None:
    # Given what checkpoints have beside an encoder: heads with layers of their own, buffers, a pooler, a decoder
    folder = embedding_model(tmp_path, "bert")
    expected = Served(folder).embed(SENTENCES)
    weights = load_file(folder / "model.safetensors")
    for name in (
        "cls.predictions.decoder.weight",
        "classifier.layers.7.weight",
        "decoder.layer.9.attention.self.query.weight",
        "embeddings.position_ids",
        "encoder.layer.1.attention.self.masked_bias",
    ):
        weights[name] = torch.ones(4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    # Then
    np.testing.assert_array_equal(Served(folder).embed(SENTENCES), expected)


_OWN_CODE = {"AutoConfig": "configuration.Config", "AutoModel": "someone/code--modeling.Model"}


@pytest.mark.parametrize("name", ["bert", "qwen2"])
def test_a_model_with_code_of_its_own_is_refused_unless_its_family_is_named(tmp_path: Path, name: str) -> None:
    folder = embedding_model(tmp_path, name)
    _configure(folder, auto_map=_OWN_CODE)

    with pytest.raises(
        ConfigurationError, match=r"auto_map, AutoModel: someone/.*`family: sentence_embedding` in models"
    ):
        Served(folder)

    expected = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES, normalize_embeddings=True)
    np.testing.assert_allclose(Served(folder, family="sentence_embedding").embed(SENTENCES), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["nomic-bert", "jina-v3", "modernbert", "eurobert-mean"])
def test_a_model_whose_code_transformers_took_in_is_served(tmp_path: Path, name: str) -> None:
    folder = embedding_model(tmp_path, name)
    expected = Served(folder).embed(SENTENCES)
    _configure(folder, auto_map=_OWN_CODE)

    np.testing.assert_array_equal(Served(folder).embed(SENTENCES), expected)


def test_what_code_makes_of_qwen2_can_be_said_in_its_configuration(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "qwen2")
    causal = Served(folder).embed(SENTENCES)
    _configure(folder, auto_map=_OWN_CODE, is_causal=False)

    # As gte-Qwen2's own class: every token sees every other
    reference = SentenceTransformer(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    vectors = Served(folder, family="sentence_embedding").embed(SENTENCES)

    np.testing.assert_allclose(vectors, reference.encode(SENTENCES, batch_size=1, normalize_embeddings=True), atol=1e-5)
    assert np.abs(vectors - causal).max() > 1e-3


def _dense_as_pickle(
    folder: Path, bare: Path, pickled: Callable[[dict[str, torch.Tensor]], Any]
) -> SentenceTransformer:
    """A folder whose `Dense` is a pickle, as those of older repositories are, and what it is without that."""
    dense = Dense(32, 12)
    sharpen(list(dense.named_parameters()))
    reference = _saved(folder, bare, Pooling(32, "mean"), dense)
    weights = folder / "2_Dense" / "model.safetensors"
    torch.save(pickled(load_file(weights)), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    return reference


def test_a_module_whose_weights_are_a_pickle_is_read_as_tensors(tmp_path: Path, bare: Path) -> None:
    reference = _dense_as_pickle(tmp_path / "saved", bare, lambda tensors: tensors)

    expected = reference.encode(SENTENCES, normalize_embeddings=True)

    np.testing.assert_allclose(Served(tmp_path / "saved").embed(SENTENCES), expected, atol=1e-5)


class _Program:
    """What a pickle makes of itself: a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._proof,)


def test_a_module_whose_pickle_is_a_program_is_refused_and_does_not_run(tmp_path: Path, bare: Path) -> None:
    proof = tmp_path / "it ran"
    _dense_as_pickle(tmp_path / "saved", bare, lambda tensors: {**tensors, "more": _Program(proof)})

    with pytest.raises(ConfigurationError, match=r"cannot be loaded: Weights only load failed"):
        Served(tmp_path / "saved")

    assert not proof.exists()


def test_an_embedding_model_that_was_a_classifier_is_one_by_its_modules(tmp_path: Path) -> None:
    # Given: the configuration, and the head, of what it was trained from
    folder = embedding_model(tmp_path / "model", "bert")
    classifier = cross_encoder(tmp_path / "classifier", "bert")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(classifier / name, folder / name)

    expected = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES, normalize_embeddings=True)

    served = Served(folder)
    np.testing.assert_allclose(served.embed(SENTENCES), expected, atol=1e-5)
    assert served.card.model_type == "embedding"


def test_a_folder_of_word_vectors_is_refused_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "0_WordEmbeddings", "type": "sentence_transformers.models.WordEmbeddings"}]'
    )

    with pytest.raises(
        ConfigurationError, match=r"no config\.json, and the WordEmbeddings that its modules\.json begins"
    ):
        Served(tmp_path)


@pytest.mark.parametrize("family", ["late_interaction", "bge_m3", "sequence_classification"])
def test_a_family_whose_weights_are_not_there_is_refused(tmp_path: Path, family: str) -> None:
    with pytest.raises(ConfigurationError):
        Served(embedding_model(tmp_path, "bert"), family=family)


def _saved(folder: Path, bare: Path, *modules: torch.nn.Module, **options: Any) -> SentenceTransformer:
    for module in modules:
        with torch.no_grad():
            sharpen(list(module.named_parameters()))
    model = SentenceTransformer(modules=[Transformer(str(bare)), *modules], device="cpu", **options)
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    embedding_model(tmp_path / "whole", "bert")
    return tmp_path / "whole" / "bare"


def test_a_normalisation_between_modules_is_kept(tmp_path: Path, bare: Path) -> None:
    reference = _saved(tmp_path / "m", bare, Pooling(32, "mean"), Normalize(), Dense(32, 16), Normalize())

    expected = reference.encode(SENTENCES)

    np.testing.assert_allclose(Served(tmp_path / "m").embed(SENTENCES), expected, atol=1e-5)


def test_a_folders_own_number_of_dimensions_is_kept(tmp_path: Path, bare: Path) -> None:
    reference = _saved(tmp_path / "m", bare, Pooling(32, "mean"), truncate_dim=8)
    served = Served(tmp_path / "m")

    np.testing.assert_allclose(served.embed(SENTENCES, normalize=False), reference.encode(SENTENCES), atol=1e-5)
    assert served.card.dimensions == 8


def test_a_module_that_would_mix_neighbours_is_refused(tmp_path: Path, bare: Path) -> None:
    _saved(tmp_path / "m", bare, CNN(32, 16, [1, 3]), Pooling(32, "mean"))

    with pytest.raises(ConfigurationError, match=r"module CNN .* is not supported"):
        Served(tmp_path / "m")


@pytest.mark.parametrize("stated", [16, 64])
@pytest.mark.parametrize("field", ["embedding_dimension", "word_embedding_dimension"])
def test_vectors_are_as_long_as_the_weights_make_them_whatever_the_pooling_says(
    tmp_path: Path, field: str, stated: int
) -> None:
    folder = embedding_model(tmp_path, "bert")
    reference = SentenceTransformer(str(folder), device="cpu")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({field: stated, "pooling_mode_mean_tokens": True}))
    served = Served(folder)

    assert served.card.dimensions == 32
    np.testing.assert_allclose(served.embed(SENTENCES), reference.encode(SENTENCES), atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "deberta-v2"])
def test_inputs_are_no_longer_than_there_are_positions(tmp_path: Path, name: str) -> None:
    # Given a folder that promises more, on which the reference fails
    folder = embedding_model(tmp_path, name)
    cut = SentenceTransformer(str(folder), device="cpu")
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": 512}))
    with pytest.raises((IndexError, RuntimeError)):
        SentenceTransformer(str(folder), device="cpu").encode(["mill " * 400])

    # When
    served = Served(folder)

    # Then
    assert served.card.max_tokens == MAX_TOKENS
    np.testing.assert_allclose(served.embed(["mill " * 400]), cut.encode(["mill " * 400]), atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "umt5"])
def test_a_model_without_a_limit_whose_folder_states_none_has_one(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given, and no room to keep what attention needs of long texts
    monkeypatch.setattr("workers.relative_bias._KEPT_BYTES", 0)
    folder = embedding_model(tmp_path, name)
    path = folder / "tokenizer_config.json"
    described = json.loads(path.read_text())
    del described["model_max_length"]
    path.write_text(json.dumps(described))
    reference = SentenceTransformer(str(folder), device="cpu")
    reference.max_seq_length = 2048
    texts = ["mill " * count for count in (3, 200, 3000, 30)]

    # When
    served = Served(folder)

    # Then
    assert served.card.max_tokens == 2048
    np.testing.assert_allclose(served.embed(texts), reference.encode(texts, batch_size=1), atol=1e-5)


@pytest.mark.parametrize("legacy", [False, True], ids=["Router", "Asym"])
def test_a_router_of_two_transformers_is_refused(tmp_path: Path, bare: Path, legacy: bool) -> None:
    ways = {"query": [Transformer(str(bare)), Pooling(32, "mean")], "document": [Transformer(str(bare)), Pooling(32)]}
    model = SentenceTransformer(modules=[Router(ways, default_route="document")], device="cpu")
    model.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    if legacy:
        (tmp_path / "m" / "router_config.json").rename(tmp_path / "m" / "config.json")
        modules = json.loads((tmp_path / "m" / "modules.json").read_text())
        modules[0]["type"] = "sentence_transformers.models.Asym"
        (tmp_path / "m" / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(
        ConfigurationError, match=r"begins with a Router \(or Asym\), .* for query, document; .*docs/models\.md"
    ):
        Served(tmp_path / "m")

    # And what the docs advise works
    for way in ways:
        one = SentenceTransformer(modules=[*model[0].sub_modules[way]], device="cpu")
        one.save_pretrained(str(tmp_path / way), create_model_card=False)
        expected = model.encode(SENTENCES, task=way)
        np.testing.assert_allclose(Served(tmp_path / way).embed(SENTENCES, normalize=False), expected, atol=1e-5)


def test_a_folder_without_a_configuration_whose_modules_are_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[{}]")

    with pytest.raises(ConfigurationError, match=r"modules\.json of folder .* is no list of modules"):
        Served(tmp_path)


def test_the_line_in_the_docs_makes_safetensors_of_a_pickle(tmp_path: Path) -> None:
    # Given
    folder = embedding_model(tmp_path, "bert")
    expected = Served(folder).embed(SENTENCES)
    _pickled(folder)
    docs = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    (program,) = re.findall(r'^python -c "(.+?)" FOLDER$', docs, re.MULTILINE | re.DOTALL)

    # When
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)

    # Then
    np.testing.assert_array_equal(Served(folder).embed(SENTENCES), expected)


def test_a_token_without_an_embedding_is_refused_and_the_others_are_served(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[FOO]"])
    tokenizer.save_pretrained(folder)
    served = Served(folder)

    with pytest.raises(InvalidRequest, match="input 1 has a token that model has no embedding for"):
        served.embed(["fine", "a [FOO] b"])
    assert served.embed(["fine"]).shape == (1, 32)


def test_a_complete_cross_encoder_is_served(tmp_path: Path) -> None:
    assert Served(cross_encoder(tmp_path, "bert")).rerank("mill", ["race"]).shape == (1,)


def test_segments_that_a_tokenizer_gives_single_texts_are_read(tmp_path: Path) -> None:
    # Given: XLNet's last token is of a segment of its own, where its files have segments at all
    folder = embedding_model(tmp_path, "xlnet")
    path = folder / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))
    reference = SentenceTransformer(str(folder), device="cpu")
    assert 2 in reference.tokenizer("a mill")["token_type_ids"]

    np.testing.assert_allclose(Served(folder).embed(SENTENCES), reference.encode(SENTENCES), atol=1e-5)


def test_a_nomic_bert_that_the_stock_class_would_change_is_refused(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "nomic-bert")
    _configure(folder, rotary_emb_base=1000, prenorm=False, rotary_emb_fraction=1.0, n_positions=8192)
    assert Served(folder).card.model_type == "embedding"

    _configure(folder, rotary_emb_base=10_000)
    with pytest.raises(ConfigurationError, match=r"rotary_emb_base is 10000 in its config\.json; .* always has 1000"):
        Served(folder)

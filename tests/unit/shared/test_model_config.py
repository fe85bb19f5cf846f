"""Which models to serve: MILLRACE_MODEL, models.yaml, or the default; and one sentence when that is wrong."""

from pathlib import Path

import pytest

from shared.model_config import DEFAULT_MODEL, ConfigurationError, ModelConfig, configured_models


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `models.yaml` of the checkout decides a test."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def test_the_default_model_is_served_when_nothing_is_said() -> None:
    assert configured_models("", None) == [DEFAULT_MODEL]


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"])
def test_the_default_model_named_by_hand_still_comes_from_its_package(name: str) -> None:
    assert configured_models(name, None) == [DEFAULT_MODEL]


def test_a_hub_id_answers_to_its_short_name_too() -> None:
    (model,) = configured_models("BAAI/bge-small-en-v1.5", None)

    assert model.name == model.source == "BAAI/bge-small-en-v1.5"
    assert model.aliases == ("bge-small-en-v1.5",)


def test_a_hub_id_without_an_organisation_needs_no_alias() -> None:
    (model,) = configured_models("bert-base-uncased", None)

    assert (model.name, model.aliases) == ("bert-base-uncased", ())


def test_a_folder_is_named_by_its_last_part(tmp_path: Path) -> None:
    # Given
    folder = tmp_path / "my-model"
    folder.mkdir()

    # When
    (model,) = configured_models(f"{folder}/", None)

    # Then
    assert model.name == "my-model"
    assert Path(model.source) == folder


def test_a_relative_folder_is_recognised_without_a_dot(tmp_path: Path) -> None:
    # Given a folder in the working folder that looks like a hub id
    Path("org/local-model").mkdir(parents=True)

    # When
    (model,) = configured_models("org/local-model", None)

    # Then
    assert model.name == "local-model"


def test_several_models_are_separated_by_commas_and_keep_their_order() -> None:
    models = configured_models(" BAAI/bge-small-en-v1.5 , , cross-encoder/ms-marco-MiniLM-L6-v2 ", None)

    assert [model.name for model in models] == ["BAAI/bge-small-en-v1.5", "cross-encoder/ms-marco-MiniLM-L6-v2"]


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "models: [{name: from-file, source: org/from-file}]")

    assert [model.name for model in configured_models("org/from-variable", path)] == ["org/from-variable"]


def test_a_models_file_says_all_that_there_is_to_say(tmp_path: Path) -> None:
    # Given
    path = _file(
        tmp_path,
        """
        models:
          - name: small
            source: BAAI/bge-small-en-v1.5
            revision: main
            aliases: [text-embedding-3-small, bge]
            dtype: bfloat16
            max_batch_tokens: 2048
          - name: rerank
            source: ./reranker
        """,
    )

    # When
    small, rerank = configured_models("", path)

    # Then
    assert small == ModelConfig(
        name="small",
        source="BAAI/bge-small-en-v1.5",
        revision="main",
        aliases=("text-embedding-3-small", "bge"),
        dtype="bfloat16",
        max_batch_tokens=2048,
    )
    assert (rerank.name, rerank.aliases, rerank.dtype) == ("rerank", (), None)


def test_a_models_file_says_where_models_are_placed(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        models:
          - {name: everywhere, source: a/b}
          - {name: once, source: c/d, placement: spread, memory_gib: 6.5}
          - {name: there, source: e/f, placement: pin, devices: [0, gpu-1, GPU-5f2c]}
        """,
    )

    everywhere, once, there = configured_models("", path)

    assert (everywhere.placement, once.placement, there.placement) == ("replicate", "spread", "pin")
    assert once.memory_gib == 6.5
    assert there.devices == ("0", "gpu-1", "GPU-5f2c")


def test_a_models_file_in_the_working_folder_is_found(tmp_path: Path) -> None:
    Path("models.yaml").write_text("models: [{name: found, source: org/found}]")

    assert [model.name for model in configured_models("", None)] == ["found"]


def test_a_models_file_that_was_asked_for_and_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"MILLRACE_MODELS_FILE names .*nowhere.yaml, which does not exist"):
        configured_models("", tmp_path / "nowhere.yaml")


BAD_FILES = {
    "not YAML": "models: [",
    "a tab": "models:\n\t- name: x",
    "empty": "",
    "a list": "- name: x\n  source: y",
    "no models": "models: []",
    "no source": "models: [{name: x}]",
    "a typo": "models: [{name: x, source: y, max_batch_token: 5}]",
    "a bad number": "models: [{name: x, source: y, max_batch_tokens: many}]",
    "a budget of nothing": "models: [{name: x, source: y, max_batch_tokens: 0}]",
    "a bad name": "models: [{name: 'two words', source: y}]",
    "a placement that there is not": "models: [{name: x, source: y, placement: scatter}]",
    "pinned to nothing": "models: [{name: x, source: y, placement: pin}]",
    "devices without a pin": "models: [{name: x, source: y, devices: [0]}]",
    "no memory at all": "models: [{name: x, source: y, memory_gib: 0}]",
    "a dtype that there is not": "models: [{name: x, source: y, dtype: float12}]",
    "two models of one name": "models: [{name: x, source: y}, {name: x, source: z}]",
    "an alias that is another's name": "models: [{name: x, source: y}, {name: z, source: z, aliases: [x]}]",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_models_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = _file(tmp_path, text)

    with pytest.raises(ConfigurationError) as raised:
        configured_models("", path)

    assert "\n" not in str(raised.value)
    assert ": : " not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "field"),
    [("no source", "models.0.source"), ("a typo", "models.0.max_batch_token"), ("a bad name", "models.0.name")],
)
def test_the_sentence_names_the_file_and_the_field(tmp_path: Path, kind: str, field: str) -> None:
    path = _file(tmp_path, BAD_FILES[kind])

    with pytest.raises(ConfigurationError) as raised:
        configured_models("", path)

    assert str(raised.value).startswith(f"{path}: {field}: ")


def test_a_models_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    # Given a folder where a file should be (an empty mount point, for example)
    folder = tmp_path / "models.yaml"
    folder.mkdir()

    # Then
    with pytest.raises(ConfigurationError, match=r"models\.yaml"):
        configured_models("", folder)


def test_a_name_that_no_queue_can_carry_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"MILLRACE_MODEL.*may hold letters"):
        configured_models("org/näme", None)


@pytest.mark.parametrize("name", ["a", "org/model-v1.5", "x:y@z+1", "A_b"])
def test_names_of_hub_models_are_fine_as_queue_names(name: str) -> None:
    assert ModelConfig(name=name, source="s").name == name


@pytest.mark.parametrize("name", ["", " a", "a b", "-a", "a}b", 'a"b', "a%b", "a*", "a\n"])
def test_names_that_would_break_a_key_or_a_script_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="may hold letters"):
        ModelConfig(name=name, source="s")


def test_a_short_name_that_would_mean_two_models_means_neither() -> None:
    one, other, third = configured_models("org/embedder,rival/embedder,org/reranker", None)

    assert (one.aliases, other.aliases, third.aliases) == ((), (), ("reranker",))

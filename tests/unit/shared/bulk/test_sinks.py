"""The operator's sinks: declared in a file, named by callers, with secrets from the environment."""

from pathlib import Path

import pytest

from shared.bulk.sinks import configured_sinks, refuse_unknown_sink
from shared.errors import InvalidRequest
from shared.model_config import ConfigurationError

DECLARED = """
sinks:
  products: {type: qdrant, url: 'https://q', api_key_env: Q_KEY, collection: products}
  open: {type: qdrant, url_env: Q_URL}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sinks.yaml"
    path.write_text(DECLARED)
    return path


def test_secrets_come_from_the_environment(file: Path) -> None:
    sinks = configured_sinks(file)

    assert sinks["products"].kind == "qdrant"
    assert sinks["products"].options({"Q_KEY": "s"}) == {"url": "https://q", "api_key": "s", "collection": "products"}
    with pytest.raises(ConfigurationError, match="names Q_KEY, which is not set"):
        sinks["products"].options({})


def test_callers_set_what_the_operator_has_left_open(file: Path) -> None:
    sinks, allowed = configured_sinks(file), frozenset({"collection"})

    merged = sinks["open"].merged({"collection": "mine"}, allowed, {"Q_URL": "https://q"})

    assert merged == {"url": "https://q", "collection": "mine"}
    for name, given in (("products", {"collection": "mine"}), ("open", {"url": "http://inside"}), ("open", {"x": 1})):
        with pytest.raises(InvalidRequest, match="takes no option"):
            sinks[name].merged(given, allowed, {"Q_URL": "https://q", "Q_KEY": "s"})


def test_a_sink_that_is_not_declared_is_refused_with_those_that_are(file: Path) -> None:
    with pytest.raises(InvalidRequest, match="there are: open, products"):
        refuse_unknown_sink("elsewhere", configured_sinks(file))
    refuse_unknown_sink("open", configured_sinks(file))


def test_without_a_file_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert configured_sinks(None) == {}
    with pytest.raises(ConfigurationError, match="cannot be read"):
        configured_sinks(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sinks: [", "not valid YAML in line 1"),
        ("[]", "must have `sinks:`"),
        ("sinks: {a: {url: x}}", "sink a must have a `type`"),
        ("sinks: {'a b': {type: qdrant}}", "may hold letters"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sinks.yaml"
    path.write_text(text)

    with pytest.raises(ConfigurationError, match=said) as caught:
        configured_sinks(path)

    assert "sinks.yaml" in str(caught.value)


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "sinks.yaml"
    path.write_text("sinks:\n  a: {url: 'postgresql://a:hunter2@b}\n")

    with pytest.raises(ConfigurationError) as caught:
        configured_sinks(path)

    assert "hunter2" not in str(caught.value)

"""Every plug-in comes with its proof."""

from pathlib import Path

import pytest

import api.dialects
from shared.plugins import discover

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def _modules(folder: str) -> list[str]:
    return [path.stem for path in sorted((ROOT / folder).glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("name", _modules("api/dialects"))
def test_every_dialect_has_its_test(name: str) -> None:
    assert (TESTS / "unit" / "api" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", _modules("workers/families"))
def test_every_family_is_compared_with_its_reference(name: str) -> None:
    assert (TESTS / "parity" / f"test_{name}.py").exists()


def test_a_dialect_is_named_as_its_file() -> None:
    assert list(discover(api.dialects)) == _modules("api/dialects")


def test_a_family_is_named_as_its_file() -> None:
    import workers.families

    assert list(discover(workers.families)) == _modules("workers/families")


def test_a_sink_is_named_as_its_file() -> None:
    import workers.sinks

    assert list(discover(workers.sinks)) == _modules("workers/sinks")


@pytest.mark.parametrize("name", _modules("workers/sinks"))
def test_every_sink_has_its_test(name: str) -> None:
    tests = "test_callbacks.py" if name == "webhook" else f"test_sink_{name}.py"
    assert (TESTS / "integration" / tests).exists()


def test_every_packable_model_type_is_compared_with_its_reference() -> None:
    from tests.helpers.tiny_models import ARCHITECTURES
    from workers.families.sequence_classification import _HEADS
    from workers.packed import BIASED, DECODERS, ENCODERS

    # Given that the parity tests run every tiny architecture
    types = {entry.encoder(200).config.model_type for entry in ARCHITECTURES.values()}
    assert types >= DECODERS | ENCODERS | (BIASED - {"mt5"})  # mT5 is T5's code under another name
    classifiers = [entry.classifier(200) for entry in ARCHITECTURES.values() if entry.classifier is not None]
    assert {model.config.model_type for model in classifiers} >= set(_HEADS)


def test_no_test_folder_is_a_package() -> None:
    # `tests/unit/api/__init__.py` would shadow the real `api`
    assert not list(TESTS.rglob("__init__.py"))

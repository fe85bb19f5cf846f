"""The catalog: which model a name means, and which one is meant without a name."""

import pytest

from api.catalog import Catalog
from shared.errors import ModelNotFound, WrongTask
from shared.queues import Operation
from tests.helpers.fleets import card, config, fleet_of

EMBED, RERANK = Operation.EMBED, Operation.RERANK


def test_a_model_is_found_by_its_name_and_by_each_alias() -> None:
    catalog = Catalog([config("org/small", "small", "text-embedding-3-small")], fleet_of(card("org/small")))

    for name in ("org/small", "small", "text-embedding-3-small"):
        assert catalog.resolve(name, EMBED) == "org/small"


def test_an_unknown_model_is_refused_with_the_names_that_there_are() -> None:
    catalog = Catalog([config("one"), config("two")], fleet_of())

    with pytest.raises(ModelNotFound, match="'three' is not served here; served models: one, two") as raised:
        catalog.resolve("three", EMBED)

    assert raised.value.param == "model"


def test_a_model_without_a_worker_is_given_the_benefit_of_the_doubt() -> None:
    # Given a model that no worker has run yet: nobody knows what it does
    catalog = Catalog([config("new")], fleet_of())

    assert catalog.resolve("new", EMBED) == catalog.resolve("new", RERANK) == "new"


def test_a_reranker_does_not_embed() -> None:
    catalog = Catalog([config("rank")], fleet_of(card("rank", "reranker")))

    with pytest.raises(WrongTask, match="rank does not embed; it does: rerank"):
        catalog.resolve("rank", EMBED)


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_first_model_that_can_is_meant(name: str | None) -> None:
    # Given
    models = [config("rank"), config("first"), config("second")]
    catalog = Catalog(models, fleet_of(card("rank", "reranker"), card("first"), card("second")))

    # Then
    assert catalog.resolve(name, EMBED) == "first"


def test_without_a_name_a_reranker_is_preferred_to_rerank() -> None:
    catalog = Catalog([config("embed"), config("rank")], fleet_of(card("embed"), card("rank", "reranker")))

    assert catalog.resolve(None, RERANK) == "rank"


def test_without_a_reranker_an_embedding_model_reranks() -> None:
    catalog = Catalog([config("embed")], fleet_of(card("embed")))

    assert catalog.resolve(None, RERANK) == "embed"


def test_without_a_name_and_without_any_model_that_can_the_task_is_refused() -> None:
    catalog = Catalog([config("rank")], fleet_of(card("rank", "reranker")))

    with pytest.raises(WrongTask, match="no served model can embed"):
        catalog.resolve(None, EMBED)


def test_without_a_name_a_model_that_has_no_worker_yet_may_be_the_one() -> None:
    # Given a reranker that runs, and a model of which nothing is known
    catalog = Catalog([config("rank"), config("new")], fleet_of(card("rank", "reranker")))

    assert catalog.resolve(None, EMBED) == "new"


def test_models_without_a_live_worker_are_missing() -> None:
    models = [config("one"), config("two")]

    assert Catalog(models, fleet_of(card("one"))).missing() == ["two"]
    assert Catalog(models, fleet_of(card("one"), card("two"), state="restarting")).missing() == ["one", "two"]

"""The catalog: which model a name means, and which one is meant without a name."""

import pytest

from api.catalog import Catalog
from shared.errors import ModelNotFound, WrongTask
from shared.queues import Operation
from shared.results import Kind
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


def test_every_name_may_mean_the_model_where_there_is_only_one() -> None:
    alone = Catalog([config("one")], fleet_of(), any_name=True)
    several = Catalog([config("one"), config("two")], fleet_of(), any_name=True)

    assert alone.resolve("text-embedding-ada-002", EMBED) == "one"
    with pytest.raises(ModelNotFound):
        several.resolve("text-embedding-ada-002", EMBED)


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


def test_a_model_that_is_started_when_work_waits_is_not_missing_but_sleeps() -> None:
    models = [config("one").model_copy(update={"cold_start_s": 60.0}), config("two")]

    asleep = Catalog(models, fleet_of())
    assert (asleep.missing(), asleep.sleeping()) == (["two"], ["one"])
    assert (asleep.cold_start_s("one"), asleep.cold_start_s("two")) == (60, 0)
    assert not asleep.is_served("one")
    awake = Catalog(models, fleet_of(card("one"), card("two")))
    assert (awake.missing(), awake.sleeping()) == ([], [])
    assert awake.is_served("one")


def test_what_a_model_is_does_not_change_when_its_workers_leave() -> None:
    # Given an embedder that runs, and a reranker that ran once
    fleet = fleet_of(card("embed"))
    fleet.known = {"rank": card("rank", "reranker"), "gone": card("gone", "reranker")}
    catalog = Catalog([config("embed"), config("rank")], fleet)

    # Then documents are not scored by another model because of that
    assert catalog.resolve(None, RERANK) == "rank"
    with pytest.raises(WrongTask, match="rank does not embed"):
        catalog.resolve("rank", EMBED)
    assert catalog.missing() == ["rank"]


def test_a_model_is_found_under_its_names_and_no_other() -> None:
    catalog = Catalog([config("org/small", "small")], fleet_of())

    found = [catalog.find(name) for name in ("small", "org/small", "big")]
    assert [model.name if model else None for model in found] == ["org/small", "org/small", None]


def test_a_request_that_does_not_say_what_to_do_means_the_first_model_that_does_more_than_rerank() -> None:
    # Given
    rank, embed = card("rank", "reranker"), card("embed")
    models = [config("rank", "alias"), config("embed")]

    # Then
    assert Catalog(models, fleet_of(rank, embed)).main(None) == embed
    assert Catalog(models, fleet_of(rank)).main(None) == rank
    assert Catalog(models, fleet_of(rank, embed)).main("alias") == rank
    assert Catalog(models, fleet_of()).main(None) is Catalog(models, fleet_of(rank)).main("nobody") is None


DENSE, SPARSE, MULTIVECTOR = Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR


def _makers(*kinds: list[Kind]) -> Catalog:
    names = [f"model-{number}" for number in range(len(kinds))]
    cards = [card(name, kinds=made) for name, made in zip(names, kinds, strict=True)]
    return Catalog([config(name) for name in names], fleet_of(*cards))


@pytest.mark.parametrize(
    ("models", "wanted", "makers"),
    [
        ([[DENSE], [SPARSE], [DENSE, SPARSE]], [DENSE, SPARSE], {"model-2": [DENSE, SPARSE]}),
        ([[DENSE], [SPARSE]], [DENSE, SPARSE], {"model-0": [DENSE], "model-1": [SPARSE]}),
        ([[SPARSE], [DENSE, MULTIVECTOR]], [DENSE, SPARSE], {"model-1": [DENSE], "model-0": [SPARSE]}),
        ([[DENSE]], [DENSE, SPARSE], {"model-0": [DENSE], None: [SPARSE]}),
        ([[DENSE], [DENSE]], [DENSE], {"model-0": [DENSE]}),
    ],
    ids=["one makes all", "two share", "in order of the kinds", "nobody makes one", "the first"],
)
def test_kinds_of_vectors_are_made_by_one_model_if_there_is_one(
    models: list[list[Kind]], wanted: list[Kind], makers: dict[str | None, list[Kind]]
) -> None:
    assert _makers(*models).makers(wanted) == makers


def test_the_kinds_that_are_made_are_those_of_one_model_or_of_all() -> None:
    catalog = _makers([MULTIVECTOR], [DENSE])

    assert catalog.kinds(None) == [DENSE, MULTIVECTOR]
    assert catalog.kinds("model-0") == [MULTIVECTOR]
    assert catalog.kinds("nobody") == []

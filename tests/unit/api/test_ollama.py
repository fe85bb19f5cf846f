"""Ollama's dialect: vectors, and what clients ask before they ask for any."""

from typing import Any

import pytest

from api.catalog import Catalog
from api.dialect import Context
from api.dialects.ollama import PLUGIN, Tags, Version
from api.settings import ApiSettings
from shared.errors import EmptyInput, ModelNotFound
from shared.jobs import EmbedRequest
from tests.helpers.dialects import answered, parsed, rendered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output
from tests.helpers.recorded import RECORDED

EMBED, EMBEDDINGS = PLUGIN.routes
VIEWS = {view.path: view for view in PLUGIN.views}


def test_what_open_webui_sends_is_answered_as_it_reads_it() -> None:
    path, body = RECORDED["Open WebUI, engine ollama"]

    assert path in EMBED.paths
    assert len(answered(EMBED, **body)["embeddings"]) == 1


def test_vectors_come_with_tokens_and_nanoseconds() -> None:
    answer = rendered(EMBED, output([[0.5, 1.0], [0.25, -1.0]]), input=["a", "b"], model="alias")

    assert answer == {
        "model": "alias",
        "embeddings": [[0.5, 1.0], [0.25, -1.0]],
        "total_duration": 500_000_000,
        "load_duration": 0,
        "prompt_eval_count": 7,
    }


@pytest.mark.parametrize(("truncate", "cuts"), [(None, True), (True, True), (False, False)])
def test_options_travel_with_the_request(truncate: bool | None, cuts: bool) -> None:
    body = {"input": "a", "truncate": truncate, "dimensions": 8, "options": {"num_ctx": 512}, "keep_alive": "5m"}

    assert parsed(EMBED, **body) == EmbedRequest(
        request_id="req-1", deadline=12.5, texts=["a"], truncate=cuts, dimensions=8
    )


def test_a_prefix_field_goes_in_front_of_each_text_and_prompt_is_left_to_the_older_route() -> None:
    request = parsed(EMBED, input="a", prefix="query: ", prompt="the text once more")

    assert isinstance(request, EmbedRequest)
    assert (request.texts, request.prompt) == (["a"], "query: ")


def test_the_older_route_embeds_one_prompt() -> None:
    assert parsed(EMBEDDINGS, prompt="a") == EmbedRequest(request_id="req-1", deadline=12.5, texts=["a"])
    assert rendered(EMBEDDINGS, output([[0.5, 1.0]]), prompt="a") == {"embedding": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("small", "small"),
        ("small:latest", "small"),
        ("tagged:latest", "tagged:latest"),
        ("nobody", "nobody"),
        (None, None),
    ],
)
def test_the_default_tag_may_be_part_of_a_name_or_not(asked: str | None, meant: str | None) -> None:
    context = Context("r", 12.5, Catalog([config("small"), config("tagged:latest")], fleet_of()))

    for route, text in ((EMBED, {"input": "a"}), (EMBEDDINGS, {"prompt": "a"})):
        assert route.parse(route.body.model_validate({**text, "model": asked}), context).model == meant


@pytest.mark.parametrize(
    ("route", "body"), [(EMBED, {"input": []}), (EMBED, {"input": ""}), (EMBEDDINGS, {"prompt": ""})]
)
def test_there_is_no_vector_of_nothing(route: Any, body: dict[str, Any]) -> None:
    with pytest.raises(EmptyInput):
        parsed(route, **body)


def test_the_models_that_embed_are_listed() -> None:
    models = [config("embed"), config("rank"), config("new")]
    catalog = Catalog(models, fleet_of(card("embed"), card("rank", "reranker")))

    shown = VIEWS["/api/tags"].render(catalog, ApiSettings(), {})

    assert [model.name for model in Tags.model_validate(shown).models] == ["embed", "new"]
    assert Version.model_validate(VIEWS["/api/version"].render(catalog, ApiSettings(), {})).version


def test_an_error_is_a_string() -> None:
    status, body = PLUGIN.render_error(ModelNotFound("model 'x' is not served here"))

    assert (status, body["error"]) == (404, "model 'x' is not served here")

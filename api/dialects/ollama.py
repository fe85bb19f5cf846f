"""Ollama's `/api/embed`, as Open WebUI, LangChain and Dify call it, and what they ask before they do."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from api import wire
from api.catalog import Catalog
from api.dialect import Answer, Context, Dialect, Job, Route, View
from api.error_bodies import FlatError
from api.fields import Dimensions, RequestFields, Text, Texts
from api.places import listed
from api.prompts import PurposeFields
from api.settings import ApiSettings
from shared import __version__, arrays
from shared.errors import MillraceError
from shared.jobs import EmbedRequest
from shared.queues import Operation

#: The tag that Ollama's clients add to a name without one.
_DEFAULT_TAG = ":latest"


class EmbedBody(PurposeFields):
    """Request of `POST /api/embed`."""

    input: Text | Texts = Field(description="One text or a list of texts.")
    model: str | None = Field(None, description="Name of the model, also with `:latest`; the default one when absent.")
    truncate: bool | None = Field(None, description="Cut over-long texts (default) or refuse them.")
    dimensions: Dimensions | None = Field(
        None, description="Keep the first so many dimensions and normalise again; 0 means all."
    )
    options: dict[str, Any] | None = Field(None, description="Ignored, as `keep_alive` is.")


class EmbedResponse(BaseModel):
    """Response of `POST /api/embed`."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = Field(description="Nanoseconds.")
    load_duration: int = Field(description="Nanoseconds; always 0: models stay loaded.")
    prompt_eval_count: int = Field(description="Tokens that the model read.")


class EmbeddingsBody(RequestFields):
    """Request of `POST /api/embeddings`, which `/api/embed` replaced."""

    prompt: Text = Field(description="One text.")
    model: str | None = Field(None, description="Name of the model, also with `:latest`; the default one when absent.")


class EmbeddingsResponse(BaseModel):
    """Response of `POST /api/embeddings`."""

    embedding: list[float]


class ModelDetails(BaseModel):
    """What kind of model it is."""

    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Model(BaseModel):
    """One model that embeds."""

    name: str
    model: str
    size: int = Field(description="Always 0: the gateway does not see the files.")
    digest: str
    details: ModelDetails


class Tags(BaseModel):
    """Response of `GET /api/tags`."""

    models: list[Model]


class Version(BaseModel):
    """Response of `GET /api/version`."""

    version: str


def _texts(body: EmbedBody) -> list[str]:
    return [body.input] if isinstance(body.input, str) else body.input


def _model(name: str | None, catalog: Catalog) -> str | None:
    """The name as it is configured: with the default tag only where that is part of it."""
    if name is None or catalog.find(name) is not None:
        return name
    return name.removesuffix(_DEFAULT_TAG)


def _parse_embed(body: EmbedBody, context: Context) -> Job:
    wire.refuse_empty(_texts(body), "input")
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=_texts(body),
        truncate=body.truncate is not False,
        dimensions=body.dimensions or None,
        **body.prompting(),
    )
    place = listed("input", body.input)
    return Job(model=_model(body.model, context.catalog), requests=[request], place=place)


def _render_embed(body: EmbedBody, answer: Answer) -> Any:
    return {
        "model": body.model or answer.model,
        "embeddings": arrays.rows(answer.output),
        "total_duration": round(answer.seconds * 1e9),
        "load_duration": 0,
        "prompt_eval_count": answer.tokens,
    }


def _parse_embeddings(body: EmbeddingsBody, context: Context) -> Job:
    wire.refuse_empty([body.prompt], "prompt")
    request = EmbedRequest(request_id=context.request_id, deadline=context.deadline, texts=[body.prompt])
    place = listed("prompt", body.prompt)
    return Job(model=_model(body.model, context.catalog), requests=[request], place=place)


def _render_embeddings(_: EmbeddingsBody, answer: Answer) -> Any:
    (vector,) = arrays.rows(answer.output)
    return {"embedding": vector}


class Ollama:
    """Ollama's words."""

    name = "ollama"
    prefix: str | None = None
    error_body: type[BaseModel] = FlatError
    routes: Sequence[Route] = (
        Route(
            paths=("/api/embed",),
            operation=Operation.EMBED,
            body=EmbedBody,
            response=EmbedResponse,
            summary="Embed texts (Ollama)",
            example={"model": "all-MiniLM-L6-v2", "input": ["The weather is lovely today."]},
            parse=_parse_embed,
            render=_render_embed,
        ),
        Route(
            paths=("/api/embeddings",),
            operation=Operation.EMBED,
            body=EmbeddingsBody,
            response=EmbeddingsResponse,
            summary="Embed a text (Ollama's older route)",
            example={"model": "all-MiniLM-L6-v2", "prompt": "The weather is lovely today."},
            parse=_parse_embeddings,
            render=_render_embeddings,
        ),
    )

    def __init__(self) -> None:
        self.views: Sequence[View] = (
            View("/api/tags", "List the models that embed (Ollama)", _tags, response=Tags),
            View("/api/version", "Version (Ollama)", _version, response=Version),
        )

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """An object whose `error` is a string."""
        return error.status, wire.flat_error(error)


def _tags(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    models = []
    for config in catalog.models:
        card = catalog.card(config.name)
        if card is not None and Operation.EMBED not in card.operations:
            continue
        details = {
            "format": "safetensors",
            "family": card.architecture if card else "",
            "families": [card.architecture] if card else [],
            "parameter_size": "",
            "quantization_level": card.dtype if card else "",
        }
        models.append({"name": config.name, "model": config.name, "size": 0, "digest": "", "details": details})
    return {"models": models}


def _version(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    return {"version": __version__}


PLUGIN: Dialect = Ollama()

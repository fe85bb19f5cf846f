"""Vertex AI's envelope: `{instances}` in, `{predictions}` out, each instance a body of TEI's."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from api import schemas, tei_bodies, wire
from api.dialect import Answer, Context, Dialect, Job, Route, View
from api.error_bodies import TeiError
from api.fields import RequestFields, Several
from shared.errors import ContradictoryFields, EmptyInput, InvalidRequest, MillraceError
from shared.jobs import operation_of
from shared.queues import Operation

#: What `task_of` tells apart.
_INSTANCE = {
    "anyOf": [
        schemas.standalone(tei_bodies.RERANK.body),
        *(schemas.without(schemas.standalone(task.body), "texts") for task in (tei_bodies.SIMILARITY, tei_bodies.MAIN)),
    ]
}


class PredictBody(RequestFields):
    """Request of `POST /vertex`."""

    instances: Several[Annotated[dict[str, Any], WithJsonSchema(_INSTANCE)]] = Field(
        description="Bodies of TEI's: with `query` and `texts` they are reranked, with `inputs.source_sentence` compared, "
        "else the model does what it is made for. All of a request ask for the same."
    )


class PredictResponse(BaseModel):
    """Response of `POST /vertex`."""

    predictions: list[Any] = Field(description="What TEI's route answers to each instance.")


def _parse(body: PredictBody, context: Context) -> Job:
    if not body.instances:
        raise EmptyInput("`instances` cannot be empty", param="instances")
    jobs = [_parse_instance(index, instance, context) for index, instance in enumerate(body.instances)]
    requests = [request for job in jobs for request in job.requests]
    if len({operation_of(request) for request in requests}) > 1:
        raise ContradictoryFields("the instances of a request must all ask for the same task", param="instances")
    return Job(
        model=None,
        requests=requests,
        place=lambda number, index: f"instances[{number}].{jobs[number].place(0, index)}",
        models=[job.model for job in jobs],
    )


def _parse_instance(index: int, instance: dict[str, Any], context: Context) -> Job:
    task = tei_bodies.task_of(instance)
    try:
        return task.parse(wire.validated(task.body, instance), context)
    except InvalidRequest as err:
        raise type(err)(f"`instances[{index}]`: {err.message}", param="instances") from err


def _render(body: PredictBody, answer: Answer) -> Any:
    predictions = []
    for instance, output, model in zip(body.instances, answer.outputs, answer.models, strict=True):
        task = tei_bodies.task_of(instance)
        one = Answer(answer.request_id, model, [output], answer.seconds, [model])
        predictions.append(task.render(task.body.model_validate(instance), one))
    return {"predictions": predictions}


class Vertex:
    """Vertex AI's words."""

    name = "vertex"
    #: These are TEI's routes too.
    prefix: str | None = "tei"
    error_body: type[BaseModel] = TeiError
    routes: Sequence[Route] = (
        Route(
            paths=("/vertex",),
            operation=Operation.EMBED,
            body=PredictBody,
            response=PredictResponse,
            summary="TEI's requests in Vertex AI's envelope",
            example={"instances": [{"inputs": "The weather is lovely today."}, {"inputs": "It's so sunny outside!"}]},
            parse=_parse,
            render=_render,
            inputs=("instances",),
        ),
    )
    views: Sequence[View] = ()

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """TEI's error object."""
        return tei_bodies.render_error(error)


PLUGIN: Dialect = Vertex()

"""One dialect's route without HTTP: a body in, the common request; common outputs in, a body."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from api import wire
from api.catalog import Catalog
from api.dialect import Answer, Context, Job, Route
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest, TokenizeRequest
from shared.results import Kind, Output, Precision, Ragged, Token
from tests.helpers.fleets import config, fleet_of
from workers.quantization import quantize

CONTEXT = Context(request_id="req-1", deadline=12.5, catalog=Catalog([config("own/name")], fleet_of()))


def job(route: Route, **fields: Any) -> Job:
    """What a body asks for."""
    return route.parse(route.body.model_validate(fields), CONTEXT)


def parsed(route: Route, **fields: Any) -> Request:
    """The only request of a body."""
    (request,) = job(route, **fields).requests
    return request


def rendered(route: Route, outputs: Output | Sequence[Output], **fields: Any) -> Any:
    """What the caller of a body reads."""
    several = [outputs] if isinstance(outputs, Output) else outputs
    answer = Answer("req-1", "own/name", several, 0.5, ["own/name"] * len(several))
    return json.loads(wire.dumps(route.render(route.body.model_validate(fields), answer)))


def answered(route: Route, **fields: Any) -> Any:
    """What the caller of a body reads, from a model that makes up its numbers; it has the form that is documented."""
    body = wire.validated(route.body, fields)
    parsed_job = route.parse(body, CONTEXT)
    answer = Answer("req-1", "own/name", outputs_of(parsed_job), 0.5, ["own/name"] * len(parsed_job.requests))
    read = json.loads(wire.dumps(route.render(body, answer)))
    TypeAdapter(route.response).validate_python(read)
    return read


def outputs_of(parsed_job: Job) -> list[Output]:
    """An output for each request of a job, as a worker would shape it; the numbers differ from item to item."""
    return [_output(request) for request in parsed_job.requests]


def _output(request: Request) -> Output:
    items, random = request.items, np.random.default_rng(0)
    match request:
        case EmbedRequest():
            return _vectors(request, random)
        case RerankRequest():
            scores = np.linspace(0.25, 0.75, items, dtype="<f4")
            return Output(shape=(items,), data=scores.tobytes(), tokens=3 * items)
        case ClassifyRequest():
            rows = np.tile(np.array([0.25, 0.75], "<f4"), (items, 1))
            return Output(shape=(items, 2), data=rows.tobytes(), tokens=3 * items, labels=("no", "yes"))
        case TokenizeRequest():
            tokens = (Token(101, "[CLS]", True, None, None), Token(7, "mill", False, 0, 4))
            return Output(shape=(items, 0), data=b"", tokens=2 * items, token_lists=(tokens,) * items)
        case DecodeRequest():
            return Output(shape=(items, 0), data=b"", tokens=items, texts=("mill",) * items)


#: Dimensions of its vectors.
_WIDTH = 16


def _vectors(request: EmbedRequest, random: np.random.Generator) -> Output:
    rows = random.standard_normal((request.items, min(request.dimensions or _WIDTH, _WIDTH))).astype("<f4")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    is_dense = Kind.DENSE in request.kinds
    entries = 2 * request.items
    ragged = {"counts": np.full(request.items, 2, "<i4").tobytes()}
    return Output(
        shape=rows.shape if is_dense else (request.items, 0),
        data=rows.tobytes() if is_dense and Precision.FLOAT32 in request.precisions else b"",
        tokens=3 * request.items,
        quantized={
            name: quantize(rows, Precision(name)).tobytes()
            for name in request.precisions
            if is_dense and name != Precision.FLOAT32
        },
        sparse=Ragged(
            **ragged,
            values=np.ones(entries, "<f4").tobytes(),
            width=1,
            indices=np.tile(np.array([3, 7], "<i4"), request.items).tobytes(),
        )
        if Kind.SPARSE in request.kinds
        else None,
        multivector=Ragged(**ragged, values=np.ones((entries, 4), "<f4").tobytes(), width=4)
        if Kind.MULTIVECTOR in request.kinds
        else None,
    )

"""Dead letters: what was given up because workers, or an engine, died of it; kept for the operator, without any text.

A letter names the inputs by their SHA-256, so that whoever has the documents can find the one: of a text the hash is that of
its UTF-8 (`printf %s "text" | sha256sum`), of an image that of the file, of token ids that of the list as JSON without
spaces (`printf '[101,2023,102]' | sha256sum`). They are the inputs as the worker got them: what is far longer than the model
reads has been cut by the gateway, and no prompt has been put in front.
"""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import orjson
from pydantic import BaseModel

from shared import keys
from shared.celery_message import decode_task, encode_failure, suspected
from shared.errors import WorkerLost
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest
from shared.places import QUERY

#: Inputs of a request that are named in a letter; a bulk request has hundreds.
_NAMED_INPUTS = 16


class DeadInputs(BaseModel):
    """What a letter says of a request."""

    request_id: str
    #: Number of all its inputs: of the part that was in this task, where a long request was cut into several.
    inputs: int
    #: Place of the only one that is named, where it is known which it was; the query's is -1.
    input: int | None = None
    #: Of its first 16 inputs, or of the only one. Of a rerank request the query comes first; a pair of a classifier is two.
    sha256: list[str]


class DeadLetter(BaseModel):
    """An entry of `millrace:dead`."""

    #: Celery task id.
    task: str
    queue: str
    #: The last worker that had it.
    worker: str
    #: How often a worker died that may have died of it; or an engine process, which `reason` tells.
    deaths: int
    #: When it was given up, Unix seconds.
    at: float
    reason: str
    #: Empty for what is no task of a model, such as a callback.
    model: str = ""
    lane: str = ""
    requests: list[DeadInputs] = []


def of_task(task_id: str, queue: str, message: bytes, *, worker: str, deaths: int) -> DeadLetter:
    """The letter of a task whose workers died.

    Args:
        task_id: Its id, which is its delivery tag too.
        queue: Where it came from.
        message: As it was in the queue, or as it would be there again: marked with the request that was running, which is
            then the only one that is named.
        worker: The last one that died.
        deaths: How many did.
    """
    letter = DeadLetter(
        task=task_id, queue=queue, worker=worker, deaths=deaths, at=time.time(), reason="its workers died repeatedly"
    )
    try:
        task, position = decode_task(message), suspected(orjson.loads(message))
    except Exception:  # noqa: BLE001 - there are many ways not to be a task
        return letter  # a callback, or of another version: given up all the same
    blamed = task.requests if position is None else task.requests[position : position + 1]
    requests = [inputs_of(request) for request in blamed]
    return letter.model_copy(update={"model": task.model, "lane": str(task.lane), "requests": requests})


def of_recovered(worker: str, given_up: Sequence[Sequence[Any]]) -> list[DeadLetter]:
    """The letters of what `recover.lua` has given up.

    Should its caller die before it has written them, whoever waits for a task finds it missing, and its counter still at
    the limit: `api.replies` writes the letter then.
    """
    return [
        of_task(tag.decode(), queue.decode(), message, worker=worker, deaths=deaths)
        for tag, queue, deaths, message in given_up
    ]


def inputs_of(request: Request, index: int | None = None) -> DeadInputs:
    """What a letter says of a request.

    Args:
        request: All of it, or only ...
        index: ... the input at this place, or the query (`shared.places.QUERY`).
    """
    places: Sequence[int] = [index] if index is not None else range(min(request.items, _NAMED_INPUTS))
    parts = chain.from_iterable(_parts(request, place) for place in places if place != QUERY)
    query = [request.query.encode()] if isinstance(request, RerankRequest) else []
    hashes = [sha256(part).hexdigest() for part in chain(query, parts)]
    return DeadInputs(request_id=request.request_id, inputs=request.items, input=index, sha256=hashes)


def _parts(request: Request, index: int) -> Iterator[bytes]:
    """What an input is made of, as bytes."""
    match request:
        case EmbedRequest(images=images, token_ids=token_ids):
            if images is not None and (image := images[index]) is not None:
                yield image
            elif token_ids is not None and (ids := token_ids[index]) is not None:
                yield orjson.dumps(list(ids))
            else:
                yield request.texts[index].encode()
        case RerankRequest():
            yield request.documents[index].encode()
        case ClassifyRequest(seconds=seconds):
            yield request.texts[index].encode()
            if seconds is not None and (second := seconds[index]) is not None:
                yield second.encode()
        case DecodeRequest():
            yield orjson.dumps(list(request.ids[index]))
        case _:
            yield request.texts[index].encode()


def write(pipe: Any, letters: Sequence[DeadLetter]) -> None:
    """Add to a pipeline, of either kind of client, the commands that keep letters and count them."""
    if letters:
        pipe.lpush(keys.DEAD_LETTERS, *[letter.model_dump_json(exclude_none=True) for letter in letters])
        pipe.ltrim(keys.DEAD_LETTERS, 0, keys.DEAD_LETTERS_KEPT - 1)
        pipe.incrby(keys.DEAD_LETTERS_EVER, len(letters))


def answer(pipe: Any, letters: Sequence[DeadLetter], *, result_ttl_s: int) -> None:
    """Add to a pipeline the answers to those who wait for tasks whose workers died."""
    for letter in letters:
        key, value = keys.result(letter.task), encode_failure(letter.task, WorkerLost())
        pipe.set(key, value, ex=result_ttl_s)
        pipe.publish(key, value)

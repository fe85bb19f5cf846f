"""The one request path of all dialects: read → parse → dispatch → render, with metrics and logs in this one place."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api import input_counts, json_answer, reading, wire
from api.access.caller import Caller, caller_of
from api.access.limits import Charge
from api.access.usage import Usage
from api.answer_sizes import expected_bytes
from api.aside import aside_in
from api.callers_words import in_callers_words
from api.catalog import Catalog
from api.departure import CLIENT_GONE, LEFT, ClientLeft, given_up_when_left, refused_when_leaving
from api.dialect import Answer, Context, Dialect, Job, Route
from api.dispatch import Dispatcher, Published
from api.images import ImageFetcher
from api.places import Place, field_of
from api.request_timeout import presumed_timeout_s, request_timeout_s
from api.room import Guest, Rooms
from api.settings import ApiSettings
from api.stages import Stages
from shared import deadline as deadlines
from shared.access import group_of
from shared.errors import (
    BatchTooLarge,
    DeadlineExceeded,
    InvalidRequest,
    MillraceError,
)
from shared.jobs import EmbedRequest, Request, estimated_tokens, operation_of
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.places import called
from shared.queues import Lane, Operation
from shared.results import Output

log = get_logger("millrace.endpoint")

ResultT = TypeVar("ResultT")

#: Outputs up to this size are written at once, in a millisecond or two.
_AT_ONCE_BYTES = 256 * 1024
#: Answers from this size on need room: of smaller ones most is with the system soon, whether or not they are read.
_LARGE_BYTES = 4 << 20

#: Requests of one body that are begun in one turn of the event loop.
_BEGUN_AT_ONCE = 128

#: TEI's `err` label by error code.
_TE_ERR = {
    "overloaded": "overloaded",
    "inference_failed": "inference",
    "empty_input": "tokenization",
    "wrong_task": "model_type",
}


#: What TEI counts inputs under, by operation; it does not count what only its tokenizer answers.
_TE_COUNTED = {Operation.EMBED: "te_embed", Operation.RERANK: "te_predict", Operation.CLASSIFY: "te_predict"}


@dataclass(slots=True)
class Exchange:
    """A request on its way: what is known of it so far, for its answer or its error."""

    #: Of those that serve its path the first, until the body has said which one it is.
    dialect: Dialect
    route: Route
    operation: Operation
    answer: Answer | None = None
    #: How long it was with the workers, waiting for them included, in seconds.
    dispatched_s: float = 0.0
    #: The body, as it was sent.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: The room that it takes where it is large.
    guest: Guest | None = None


class Endpoint:
    """Answers requests in any dialect."""

    def __init__(
        self,
        catalog: Catalog,
        dispatcher: Dispatcher,
        images: ImageFetcher,
        metrics: Metrics,
        stages: Stages,
        usage: Usage,
        settings: ApiSettings,
    ) -> None:
        self._usage = usage
        self._images = images
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._stages = stages
        self._settings = settings
        self._rooms = Rooms(metrics, bodies=settings.large_bodies_bytes, answers=settings.large_answers_bytes)

    async def __call__(self, request: HttpRequest, contenders: Sequence[tuple[Dialect, Route]]) -> Response:
        """Answer a request on a path that these dialects serve."""
        started = time.perf_counter()
        exchange = _exchange(contenders)
        content: Sequence[bytes] = []
        headers: dict[str, str] = {}
        code = "ok"
        try:
            # Not starlette's look-up, which decodes every header each time: a tenth of the gateway's time.
            given = dict(request.scope["headers"])
            caller = caller_of(request)
            lane = _lane(given)
            caller.require_lane(lane)
            exchange.guest = self._rooms.guest(lane)
            with refused_when_leaving():
                patience_s = presumed_timeout_s(given.get(b"x-request-timeout"), self._settings.request_timeout_s)
                read = await reading.read(request, given, exchange.guest, self._settings, patience_s)
                context = self._context(request, given, caller, exchange.guest.waited_s)
                charge: Charge | None = request.scope["state"].get("charge")
                with given_up_when_left(request.receive):
                    content, headers = await self._converse(
                        exchange, contenders, read.value, context, lane, started, charge, large=read.is_large
                    )
            status = 200
        except (ClientLeft, ClientDisconnect):
            self._count(exchange, LEFT, time.perf_counter() - started)
            return Response(status_code=CLIENT_GONE)
        except MillraceError as error:
            code = error.code
            status, problem = exchange.dialect.render_error(error)
            content = [orjson.dumps(problem)]
            headers = wire.error_headers(error)
            if error.status >= 500:
                log.warning("request_failed", dialect=exchange.dialect.name, code=error.code, reason=error.message)
        except Exception:
            code = MillraceError.code
            log.exception("request_crashed", dialect=exchange.dialect.name, path=exchange.route.paths[0])
            status, problem = exchange.dialect.render_error(MillraceError(wire.CRASHED))
            content = [orjson.dumps(problem)]
        finally:
            # A large answer is kept until it is sent, and may have the body's texts in it.
            stays = exchange.guest if sum(map(len, content)) > _LARGE_BYTES else None
            if exchange.guest and stays is None:
                exchange.guest.leave()
        self._count(exchange, code, time.perf_counter() - started)
        return json_answer.response(content, status, headers, stays)

    @property
    def returns_documents(self) -> bool:
        """Whether documents are returned with their scores where a request does not say."""
        return self._settings.return_documents

    async def answer(
        self, contenders: Sequence[tuple[Dialect, Route]], data: Mapping[str, Any], context: Context, lane: Lane
    ) -> tuple[int, bytes, int]:
        """Answer a body that did not come as an HTTP request of its own: a line of a batch.

        Returns:
            What its status and body would have been, and the tokens that the model read for it.

        Raises:
            MillraceError: It could not be answered now; the same body may be later.
        """
        started = time.perf_counter()
        exchange = _exchange(contenders)
        code = "ok"
        try:
            content, _ = await self._converse(exchange, contenders, data, context, lane, started)
        except MillraceError as error:
            code = error.code
            if error.retryable:
                raise
            status, problem = exchange.dialect.render_error(error)
            return status, orjson.dumps(problem), 0
        except Exception:
            code = MillraceError.code
            log.exception("line_crashed", dialect=exchange.dialect.name, path=exchange.route.paths[0])
            status, problem = exchange.dialect.render_error(MillraceError(wire.CRASHED))
            return status, orjson.dumps(problem), 0
        finally:
            self._count(exchange, code, time.perf_counter() - started)
        return 200, b"".join(content), exchange.answer.tokens if exchange.answer else 0

    async def _converse(
        self,
        exchange: Exchange,
        contenders: Sequence[tuple[Dialect, Route]],
        data: Mapping[str, Any],
        context: Context,
        lane: Lane,
        started: float,
        charge: Charge | None = None,
        *,
        large: bool = False,
    ) -> tuple[Sequence[bytes], dict[str, str]]:
        """Body, in pieces, and headers of the answer; what is found out on the way is noted in `exchange`."""
        if len(contenders) > 1:
            exchange.dialect, exchange.route = choose(contenders, data)
        route = exchange.route
        exchange.operation = route.operation
        exchange.data = data
        entries = input_counts.entries(route, data, self._settings.max_client_batch_size)
        large = large or entries > input_counts.MOST_AT_ONCE
        body, job = await _understood_aside(route, data, context, lane) if large else _understood(route, data, context)
        # On a route for a model's main task, only the job says which.
        exchange.operation = operation_of(job.requests[0])
        context.caller.require(group_of(exchange.operation))
        if charge is None:
            models, outputs = await self._run(exchange, job, lane, context)
        else:
            models, outputs = await self._charged(charge, exchange, job, lane, context)
        answer = Answer(context.request_id, models[0], outputs, time.perf_counter() - started, models)
        exchange.answer = answer
        if large or sum(output.size for output in outputs) > _AT_ONCE_BYTES:
            content = await aside_in(lane, lambda: json_answer.pieces(route.render(body, answer)))
            if exchange.guest is not None:
                exchange.guest.answer_is(sum(map(len, content)))
        else:
            content = [wire.dumps(route.render(body, answer))]
        self._stages.observe_gateway(models[0], lane, time.perf_counter() - started - exchange.dispatched_s)
        return content, _headers(job, answer)

    async def _charged(
        self, charge: Charge, exchange: Exchange, job: Job, lane: Lane, context: Context
    ) -> tuple[list[str], list[Output]]:
        """The same as `_run`, for a tenant with limits: nothing is given back of what the workers may have computed."""
        await charge.take_tokens(sum(estimated_tokens(request.characters, request.items) for request in job.requests))
        published = Published()
        real: int | None = None
        try:
            models, outputs = await self._run(exchange, job, lane, context, published)
            real = sum(output.tokens for output in outputs)
        finally:
            charge.settle(real, published.tokens)
        return models, outputs

    def _context(
        self, request: HttpRequest, headers: Mapping[bytes, bytes], caller: Caller, waited_s: float
    ) -> Context:
        given = headers.get(b"x-request-timeout")
        timeout_s = request_timeout_s(given, self._settings.request_timeout_s) - waited_s
        charge: Charge | None = request.scope["state"].get("charge")
        if charge is not None:
            timeout_s -= charge.waited_s
            charge.deadline = time.monotonic() + timeout_s
        return Context(
            request.state.request_id,
            deadlines.after(timeout_s),
            self._catalog.within(caller.scope.models),
            caller,
            return_documents=self.returns_documents,
            is_patient=given is None,
        )

    async def _run(
        self, exchange: Exchange, job: Job, lane: Lane, context: Context, published: Published | None = None
    ) -> tuple[list[str], list[Output]]:
        """The own names of the models that answered the requests, and their outputs."""
        operation = operation_of(job.requests[0])
        items, most = sum(request.items for request in job.requests), self._settings.max_client_batch_size
        if items > most:
            last = len(job.requests) - 1
            raise input_counts.too_many(items, most, field_of(job.place(last, job.requests[last].items - 1)))
        self._metrics.histogram("millrace_request_items", operation=str(operation)).observe(items)
        counted = _TE_COUNTED.get(operation)
        if counted is not None:
            self._metrics.gauge(f"{counted}_count").inc(items)
        method = "single" if items == 1 else "batch"
        self._metrics.gauge("te_request_count", method=method).inc()
        names = job.models or [job.model] * len(job.requests)
        models = [
            _resolve(context.catalog, name, request, images=job.images is not None)
            for name, request in zip(names, job.requests, strict=True)
        ]
        if context.is_patient:
            job = self._with_time_to_start(job, models, lane, context.catalog)
        if exchange.guest is not None:
            await self._make_answer_room(exchange.guest, models, job, context.catalog)
        requests = await self._with_images(exchange, job)
        dispatched = time.perf_counter()
        outputs = await self._dispatch(exchange, models, lane, requests, job.place, published)
        exchange.dispatched_s = time.perf_counter() - dispatched
        if counted is not None:
            self._metrics.gauge(f"{counted}_success").inc(items)
        self._metrics.gauge("te_request_success", method=method).inc()
        for model, output in zip(models, outputs, strict=True):
            self._observe(model, operation, output)
        for number, (model, request, output) in enumerate(zip(models, job.requests, outputs, strict=True)):
            # A request may be several to the workers: it is one to its sender.
            self._usage.count(
                context.caller.tenant, model, requests=int(number == 0), items=request.items, tokens=output.tokens
            )
        return models, outputs

    async def _make_answer_room(self, guest: Guest, models: Sequence[str], job: Job, catalog: Catalog) -> None:
        """Wait until there is room for the answer, if it will be large: before it is computed, since it is kept after that.

        Raises:
            Overloaded: There is none before the deadline.
        """
        size = sum(
            expected_bytes(request, card)
            for model, request in zip(models, job.requests, strict=True)
            if (card := catalog.card(model)) is not None
        )
        if size > _LARGE_BYTES:
            await guest.expect_answer(size, max(0.0, deadlines.remaining_s(job.requests[0].deadline)))

    def _with_time_to_start(self, job: Job, models: Sequence[str], lane: Lane, catalog: Catalog) -> Job:
        """The job with later deadlines where what it waits for is that a worker is started, the first one or another."""
        requests = [
            replace(request, deadline=request.deadline + start_s)
            if (start_s := catalog.cold_start_s(model))
            and (not catalog.is_served(model) or self._dispatcher.is_late(model, lane, request))
            else request
            for model, request in zip(models, job.requests, strict=True)
        ]
        return replace(job, requests=requests)

    async def _dispatch(
        self,
        exchange: Exchange,
        models: Sequence[str],
        lane: Lane,
        requests: Sequence[Request],
        place: Place,
        published: Published | None,
    ) -> list[Output]:
        async def run(number: int, model: str, request: Request) -> Output:
            with _named(exchange, place, number):
                return await self._dispatcher.run(model, lane, request, published)

        if len(requests) == 1:
            return [await run(0, models[0], requests[0])]
        pairs = zip(models, requests, strict=True)
        return await _together([run(number, model, request) for number, (model, request) in enumerate(pairs)])

    async def _with_images(self, exchange: Exchange, job: Job) -> Sequence[Request]:
        """The requests, with the bytes of images."""
        request = job.requests[0]
        if job.images is None or not isinstance(request, EmbedRequest):
            return job.requests
        count, most = sum(image is not None for image in job.images), self._settings.max_images
        if count > most:
            raise BatchTooLarge(
                f"{count} images in one request are more than {most}; split it or raise MILLRACE_MAX_IMAGES"
            )

        async def read(index: int, reference: str | None) -> bytes | None:
            with _named(exchange, job.place, 0):
                try:
                    return None if reference is None else await self._images.read(reference)
                except InvalidRequest as err:
                    raise type(err)(f"{called(index)}: {err.message}", index=index) from err

        try:
            async with asyncio.timeout(max(0.0, deadlines.remaining_s(request.deadline))):
                images = await _together([read(index, image) for index, image in enumerate(job.images)])
        except TimeoutError:
            raise DeadlineExceeded("the images were not fetched before the deadline") from None
        return [replace(request, images=images)]

    def _observe(self, model: str, operation: Operation, output: Output) -> None:
        self._metrics.counter("millrace_tokens_total", model=model, operation=str(operation)).inc(output.tokens)
        if output.truncated:
            self._metrics.counter("millrace_truncated_inputs_total", model=model).inc(output.truncated)
        timings = output.timings
        self._metrics.histogram("te_request_tokenization_duration").observe(timings.tokenization_s)
        self._metrics.histogram("te_request_queue_duration").observe(timings.queue_s)
        self._metrics.histogram("te_request_inference_duration").observe(timings.inference_s)

    def _count(self, exchange: Exchange, code: str, seconds: float) -> None:
        labels = {"dialect": exchange.dialect.name, "operation": str(exchange.operation)}
        self._metrics.counter("millrace_requests_total", **labels, code=code).inc()
        self._metrics.histogram("millrace_request_duration_seconds", **labels).observe(seconds)
        if code == "ok":
            self._metrics.histogram("te_request_duration").observe(seconds)
        elif code != LEFT:
            self._metrics.gauge("te_request_failure", err=_TE_ERR.get(code, "validation")).inc()


def _understood(route: Route, data: Mapping[str, Any], context: Context) -> tuple[Any, Job]:
    """A body as its model, and the job that it asks for."""
    body = wire.validated(route.body, data)
    return body, route.parse(body, context)


async def _understood_aside(route: Route, data: Mapping[str, Any], context: Context, lane: Lane) -> tuple[Any, Job]:
    """The same of a large body, behind others of its lane.

    Raises:
        DeadlineExceeded: They took too long.
    """
    try:
        async with asyncio.timeout(max(0.0, deadlines.remaining_s(context.deadline))):
            return await aside_in(lane, _understood, route, data, context)
    except TimeoutError:
        raise DeadlineExceeded from None


def _exchange(contenders: Sequence[tuple[Dialect, Route]]) -> Exchange:
    dialect, route = contenders[0]
    return Exchange(dialect, route, route.operation)


@contextmanager
def _named(exchange: Exchange, place: Place, number: int) -> Iterator[None]:
    """Have errors about an input or an option of a job's request say it in the words of the body."""
    try:
        yield
    except MillraceError as error:
        told = in_callers_words(error, exchange.route, exchange.data, place, number)
        if told is error:
            raise
        raise told from error


def _resolve(catalog: Catalog, name: str | None, request: Request, *, images: bool) -> str:
    kinds = request.kinds if isinstance(request, EmbedRequest) else ()
    return catalog.resolve(name, operation_of(request), kinds, images=images)


async def _together(coroutines: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Their results; the first error gives up the others and is raised by itself. Of many, others have turns in between."""
    try:
        async with asyncio.TaskGroup() as group:
            running = []
            for number, coroutine in enumerate(coroutines):
                if number and number % _BEGUN_AT_ONCE == 0:
                    await asyncio.sleep(0)
                running.append(group.create_task(coroutine))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        for coroutine in coroutines:
            coroutine.close()  # what was given up before it began
    return [task.result() for task in running]


def choose(contenders: Sequence[tuple[Dialect, Route]], data: Mapping[str, Any]) -> tuple[Dialect, Route]:
    """The dialect whose words a body is in, of those that serve its path. What is null is not there.

    Raises:
        InvalidRequest: It has none of the fields that tell them apart, or several.
    """
    keys = {route.key: None for _, route in contenders}
    given = {name: value for name, value in data.items() if value is not None}
    present = [key for key in keys if key in given]
    if len(present) == 1:
        for dialect, route in sorted(contenders, key=lambda entry: -entry[1].precedence):
            if route.key == present[0] and route.claims(given):
                return dialect, route
    raise InvalidRequest(f"the body must have exactly one of these fields: {', '.join(keys)}")


def _headers(job: Job, answer: Answer) -> dict[str, str]:
    """TEI's headers (milliseconds, characters and tokens as integers), and how many inputs were cut."""
    # Of several requests those of the slowest: their stages, one after the other, fit into the whole.
    timings = max(
        (output.timings for output in answer.outputs),
        key=lambda timings: timings.queue_s + timings.tokenization_s + timings.inference_s,
    )
    headers = {
        "x-compute-type": "gpu+optimized",
        "x-compute-time": _ms(answer.seconds),
        "x-compute-characters": str(sum(request.characters for request in job.requests)),
        "x-compute-tokens": str(answer.tokens),
        "x-total-time": _ms(answer.seconds),
        "x-tokenization-time": _ms(timings.tokenization_s),
        "x-queue-time": _ms(timings.queue_s),
        "x-inference-time": _ms(timings.inference_s),
    }
    if truncated := sum(output.truncated for output in answer.outputs):
        headers["x-truncated-inputs"] = str(truncated)
    return headers


def _ms(seconds: float) -> str:
    # Cut as TEI does, so that parts do not add up to more than the whole by being rounded.
    return str(int(seconds * 1000))


def _lane(headers: Mapping[bytes, bytes]) -> Lane:
    given = headers.get(b"x-millrace-lane", b"interactive").decode("latin-1")
    try:
        return Lane(given)
    except ValueError:
        lanes = ", ".join(Lane)
        raise InvalidRequest(f"header x-millrace-lane must be one of {lanes}, not {given!r}") from None

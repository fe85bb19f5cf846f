"""The one tree of errors. A class carries what every dialect needs to render it; its docstring is its default sentence."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from shared.places import QUERY, called


class MillraceError(Exception):
    """Something went wrong in the service."""

    #: Stable machine-readable name; travels on the wire.
    code: ClassVar[str] = "internal_error"
    #: HTTP status in dialects that do not say otherwise.
    status: ClassVar[int] = 500
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = False
    #: Seconds after which a retry makes sense, where nobody knows better.
    usual_retry_after_s: ClassVar[float | None] = None

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        index: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Build an error.

        Args:
            message: One sentence for the caller; the class docstring when empty.
            param: Name of the request field at fault.
            index: Where that is one input: its position among the request's, or `QUERY`. The sentence then begins with
                what `places.called` calls it.
            retry_after_s: Seconds after which a retry makes sense.
        """
        self.message = message or (type(self).__doc__ or "").strip()
        self.param = param
        self.index = index
        self.retry_after_s = self.usual_retry_after_s if retry_after_s is None else retry_after_s
        super().__init__(self.message)

    def moved(self, start: int) -> Self:
        """The same error of the whole request, of whose inputs those before `start` were not in this one."""
        if self.index is None or self.index == QUERY:
            return self
        index = start + self.index
        return type(self)(self._about(called(index)), param=self.param, index=index, retry_after_s=self.retry_after_s)

    def named(self, place: str, param: str | None = None) -> Self:
        """The same error in its sender's words; itself where it is not about one input.

        Args:
            place: What he calls the input: his sentence begins with it.
            param: The request's field that has it.
        """
        if self.index is None:
            return self
        return type(self)(self._about(place), param=param, retry_after_s=self.retry_after_s)

    def renamed(self, path: str, param: str) -> Self:
        """The same error in its sender's words, where it is about an option and not about one input.

        Args:
            path: What he calls the option; the sentence has its own name for it, `param`, in backticks.
            param: The request's field that has it.
        """
        message = self.message.replace(f"`{self.param}`", f"`{path}`")
        return type(self)(message, param=param, retry_after_s=self.retry_after_s)

    def _about(self, subject: str) -> str:
        """The sentence with another subject."""
        before = "" if self.index is None else called(self.index)
        return subject + self.message.removeprefix(before)

    def to_wire(self) -> dict[str, Any]:
        """The error as a plain mapping for a reply."""
        return {"code": self.code, "message": self.message, "param": self.param, "index": self.index}


class InvalidRequest(MillraceError):
    """The request is not valid."""

    code = "invalid_request"
    status = 400


class InvalidJson(InvalidRequest):
    """The body is not valid JSON."""

    code = "invalid_json"


class EmptyInput(InvalidRequest):
    """The input is empty; send at least one non-empty text."""

    code = "empty_input"


class ContradictoryFields(InvalidRequest):
    """Fields of the request do not go together."""

    code = "contradictory_fields"


class BatchTooLarge(InvalidRequest):
    """The request has too many inputs."""

    code = "batch_too_large"
    status = 413


class BodyTooLarge(InvalidRequest):
    """The request body is too large."""

    code = "body_too_large"
    status = 413


class InputTooLong(InvalidRequest):
    """The input has more tokens than the model takes."""

    code = "context_length_exceeded"


class TokenInputUnsupported(InvalidRequest):
    """Token ids are not supported; send text (LangChain: check_embedding_ctx_length=False)."""

    code = "token_input_unsupported"


class UnsupportedMediaType(InvalidRequest):
    """A body of this type is not taken here."""

    code = "unsupported_media_type"
    status = 415


class WrongTask(InvalidRequest):
    """The model does not do this task."""

    code = "wrong_task"


class UnsupportedByModel(InvalidRequest):
    """The model does not take this value; another may."""

    code = "unsupported_by_model"


class UnknownSink(InvalidRequest):
    """The operator has declared no such sink."""

    code = "unknown_sink"


class InvalidImage(InvalidRequest):
    """The image cannot be read."""

    code = "invalid_image"


class ImageUnavailable(InvalidRequest):
    """The image could not be fetched from its URL."""

    code = "image_unavailable"


class ModelNotFound(MillraceError):
    """No such model is served here."""

    code = "model_not_found"
    status = 404


class Unauthenticated(MillraceError):
    """The request has no valid API key."""

    code = "invalid_api_key"
    status = 401


class Forbidden(MillraceError):
    """The API key does not allow this."""

    code = "permission_denied"
    status = 403


class PathNotFound(MillraceError):
    """Nothing is served at this path."""

    code = "path_not_found"
    status = 404


class MethodNotAllowed(MillraceError):
    """The path is served for another method."""

    code = "method_not_allowed"
    status = 405


class MalformedHttp(MillraceError):
    """This is not a valid HTTP request."""

    code = "malformed_http"
    status = 400


class HeadTooLarge(MillraceError):
    """The request's line and headers are too large."""

    code = "head_too_large"
    status = 431


class BodyTooSlow(MillraceError):
    """The request's body did not arrive in time."""

    code = "body_too_slow"
    status = 408


class HeadTooSlow(MillraceError):
    """The request's line and headers did not arrive in time."""

    code = "head_too_slow"
    status = 408


class Overloaded(MillraceError):
    """The service has more work than it can do in time; try again later."""

    code = "overloaded"
    status = 429
    retryable = True


class RateLimited(MillraceError):
    """The tenant has asked for as much as it may; try again later."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True


class Unavailable(MillraceError):
    """The service cannot reach its queue; try again later."""

    code = "unavailable"
    status = 503
    retryable = True
    usual_retry_after_s = 1.0


class DeadlineExceeded(MillraceError):
    """The request was not finished before its deadline."""

    code = "deadline_exceeded"
    status = 504
    retryable = True
    usual_retry_after_s = 1.0


class InferenceFailed(MillraceError):
    """The model failed on this input."""

    code = "inference_failed"
    status = 500


class OutOfMemory(InferenceFailed):
    """The input does not fit into the memory of the worker's device, not even alone; shorten it."""

    code = "out_of_memory"
    status = 413


class WorkerLost(InferenceFailed):
    """Workers died repeatedly while they ran this request; it is kept in the dead-letter list."""

    code = "worker_lost"


class JobsOff(MillraceError):
    """Bulk jobs, files and batches are not taken here."""

    code = "jobs_off"
    status = 404


class NotStored(MillraceError):
    """No such job, file or result is here; it may have expired."""

    code = "not_found"
    status = 404


class Conflict(MillraceError):
    """The request does not fit the state of what it is about."""

    code = "conflict"
    status = 409


class IdempotencyKeyInUse(MillraceError):
    """A request with the same Idempotency-Key is still under way."""

    code = "idempotency_key_in_use"
    status = 409
    retryable = True


class IdempotencyKeyReused(MillraceError):
    """This Idempotency-Key was used for another payload; take a new one for a new request."""

    code = "idempotency_key_reused"
    status = 422


class StorageFull(MillraceError):
    """The store of bulk jobs is full; delete jobs and files, or give it more room."""

    code = "storage_full"
    status = 507


class StorageUnavailable(MillraceError):
    """The store of bulk jobs cannot be used; try again later."""

    code = "storage_unavailable"
    status = 503
    retryable = True
    usual_retry_after_s = 1.0


def _tree(root: type[MillraceError]) -> dict[str, type[MillraceError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_wire(data: Mapping[str, Any]) -> MillraceError:
    """The error that `to_wire` described; an unknown code from a newer worker becomes a plain `MillraceError`."""
    error = _tree(MillraceError).get(str(data.get("code")), MillraceError)
    index = data.get("index")
    return error(str(data.get("message", "")), param=data.get("param"), index=index if isinstance(index, int) else None)


def first_line(err: BaseException) -> str:
    """What another library's error says, in one line; its type where it says nothing."""
    lines = str(err).strip().splitlines()
    return lines[0] if lines else type(err).__name__

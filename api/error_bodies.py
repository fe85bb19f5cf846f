"""The bodies of errors, as the OpenAPI document has them: one model for each form that a dialect's clients read."""

from typing import Literal

from pydantic import BaseModel, Field

_SENTENCE = "What is wrong, in one sentence."
_REPEATED = "The same sentence, where other clients look for it."
_CODE = "The error's stable name; the examples of each status have those that it comes with."


class ErrorDetails(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str = Field(description=_SENTENCE)
    type: Literal["invalid_request_error", "rate_limit_exceeded", "server_error"] = Field(
        description="Whose fault it is, in OpenAI's words."
    )
    param: str | None = Field(description="The field of the request at fault, where there is one.")
    code: str = Field(description=_CODE)


class NestedError(BaseModel):
    """An error as OpenAI's clients read it, with the `detail` of Jina's and Voyage's and the `message` of Cohere's."""

    error: ErrorDetails
    detail: str = Field(description=_REPEATED)
    message: str = Field(description=_REPEATED)


_RECEIVED = "After a gap (409): how many documents the job has, from where the sender goes on."


class UploadErrorDetails(ErrorDetails):
    """What OpenAI's clients read of an error of documents for a job."""

    received: int | None = Field(None, description=_RECEIVED)


class UploadError(NestedError):
    """An error of documents for a job."""

    error: UploadErrorDetails
    received: int | None = Field(None, description=_RECEIVED)


class FlatError(BaseModel):
    """An error for clients that want a string at `error`: Ollama's, Qdrant's and Weaviate's."""

    error: str = Field(description=_SENTENCE)
    error_type: Literal["Empty", "Validation", "Backend", "Overloaded", "Unhealthy"] = Field(
        description="What kind of error it is, in TEI's words."
    )
    detail: str = Field(description=_REPEATED)
    message: str = Field(description=_REPEATED)
    type: str = Field(description="`error_type`, by its other name.")
    code: str = Field(description=_CODE)


class TeiError(FlatError):
    """An error as TEI's clients read it, with TEI's statuses: 422 for what is not valid, 424 for what a model failed at."""

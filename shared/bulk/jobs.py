"""Records of bulk jobs, uploaded files and webhook endpoints, as they are kept in Redis."""

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.access import Scope
from shared.errors import MillraceError
from shared.results import Precision

#: How a vector is written down: numbers, base64 of its little-endian bytes, or those bytes themselves (msgpack).
VectorEncoding = Literal["float", "base64", "binary"]


class Kind(StrEnum):
    """Where a job came from; decides what its input lines are."""

    INGEST = "ingest"  # documents: {"id", "text", "metadata"}
    BATCH = "batch"  # requests of some dialect: {"custom_id", "method", "url", "body"}


class State(StrEnum):
    """What a job is doing. A batch says so in OpenAI's words, which these are."""

    VALIDATING = "validating"  # a batch: its file is being read
    RECEIVING = "receiving"  # an ingest: documents still arrive; those that have are being run
    IN_PROGRESS = "in_progress"  # all input is there
    FINALIZING = "finalizing"  # all has run
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in FINAL_STATES

    @property
    def runs(self) -> bool:
        """Whether its segments are given out."""
        return self in (State.RECEIVING, State.IN_PROGRESS)


FINAL_STATES = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})


class Record(BaseModel):
    """Something that is kept as JSON; a field that a newer version added is ignored by an older one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class EmbedOptions(Record):
    """What an ingest makes of its documents."""

    kinds: list[str] = Field(default_factory=lambda: ["dense"])
    dimensions: int | None = None
    normalize: bool = True
    truncate: bool = True
    truncation_side: str = "right"
    input_type: str | None = "document"
    prompt_name: str | None = None
    precision: Precision = Precision.FLOAT32


class Delivery(Record):
    """Where a job's results and events go while it runs."""

    #: Id of a webhook endpoint; None for none.
    endpoint: str | None = None
    #: Name of a sink of the operator's `sinks.yaml`; None for none.
    sink: str | None = None
    #: What the sink is told beside its own settings, for example the collection.
    sink_options: dict[str, Any] = Field(default_factory=dict)
    encoding: VectorEncoding = "float"
    gzip: bool = False
    #: Send the place of the results instead of the results.
    by_reference: bool = False

    @property
    def has_receiver(self) -> bool:
        """Whether anything goes anywhere."""
        return self.endpoint is not None or self.sink is not None


class JobSpec(Record):
    """What a job was asked for; it does not change."""

    id: str
    kind: Kind
    #: Own name of the model; None where each line of a batch says its own.
    model: str | None = None
    #: Path that the lines of a batch are for.
    endpoint: str | None = None
    options: EmbedOptions = Field(default_factory=EmbedOptions)
    delivery: Delivery = Field(default_factory=Delivery)
    #: Fields put under each line's body where it has none of its own (Voyage's `request_params`).
    request_params: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    #: Jobs of a higher priority get their segments first, -100 to 100.
    priority: int = 0
    #: Unix seconds.
    created_at: float
    #: When it is given up if it has not finished, Unix seconds.
    expires_at: float
    #: Seconds for which results are kept after it has finished.
    results_ttl_s: float
    #: Seconds for which the files of a batch are kept, where that is another time.
    output_ttl_s: float | None = None
    input_file_id: str | None = None
    #: Whose it is; None where no keys are asked for.
    tenant: str | None = None
    #: What the key allowed that it was made with; None for everything.
    scope: Scope | None = None
    completion_window: str | None = None


class JobError(Record):
    """Why a job failed, or a fault of its input."""

    code: str
    message: str
    param: str | None = None
    #: Line of the input, from 1.
    line: int | None = None

    @classmethod
    def of(cls, error: MillraceError) -> Self:
        """What an error says of a job that it ended."""
        return cls(code=error.code, message=error.message, param=error.param)


class Job(Record):
    """A job as it stands."""

    spec: JobSpec
    state: State
    #: Documents or lines that are safely in the store.
    received: int = 0
    received_bytes: int = 0
    #: CRC-32 of their lines, one after the other: with `received_bytes` it tells them from others that are sent again.
    checksum: int = 0
    #: Segments that they are in.
    segments: int = 0
    #: Whether all input is there.
    input_complete: bool = False
    #: Segments whose results are in the store.
    segments_done: int = 0
    #: Documents or lines that have a result ...
    completed: int = 0
    #: ... and that have an error.
    failed: int = 0
    tokens: int = 0
    #: Bytes that its files take in the store, input and results.
    stored_bytes: int = 0
    #: Documents per second, averaged over about the last 15 seconds before `rated_at` (Unix seconds; 0 for never), where the
    #: last segment was completed or, before that, the first one came.
    rate: float = 0.0
    rated_at: float = 0.0
    #: When documents last arrived, Unix seconds; 0 for never.
    appended_at: float = 0.0
    #: Whether it is about to fail, as soon as nothing of it is under way; why is in `errors`.
    failing: bool = False
    errors: list[JobError] = Field(default_factory=list)
    #: When it entered each state, Unix seconds.
    entered_at: dict[str, float] = Field(default_factory=dict)
    output_file_id: str | None = None
    error_file_id: str | None = None
    #: Callbacks: the segment whose results go out next, how many arrived, were given up, and are on their way.
    callback_cursor: int = 0
    callbacks_delivered: int = 0
    callbacks_dead: int = 0
    callbacks_pending: int = 0
    #: Why no more callbacks are sent; empty while they are.
    callbacks_stopped: str = ""
    #: The end of the job (`events.mark_of_end`) after which its last event was made; empty while it has not ended.
    callbacks_final: str = ""
    #: The end (`events.mark_of_end`) that others than its own receivers were told of.
    callbacks_announced: str = ""

    @property
    def id(self) -> str:
        """Its id."""
        return self.spec.id


class FilePart(Record):
    """A piece of a file that lies in the store."""

    path: str
    size: int


class FileRecord(Record):
    """An uploaded file, or a batch's output: OpenAI's file object and where its bytes are."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    #: Unix seconds; None for never.
    expires_at: float | None = None
    #: Where its bytes are; an output's are looked up by the segments of its job.
    path: str | None = None
    job: str | None = None
    #: Of a job: whether it holds its error lines, not its results.
    is_errors: bool = False
    #: Whose it is; None where no keys are asked for.
    tenant: str | None = None


class WebhookEndpoint(Record):
    """A receiver of callbacks."""

    id: str
    url: str
    #: Signing secrets, `whsec_...`, the current one first, with the Unix time at which each ends (None for never).
    secrets: list[tuple[str, float | None]]
    #: Types of events that it gets; empty for all.
    events: list[str] = Field(default_factory=list)
    name: str | None = None
    created_at: float
    #: When its configuration or its secret last changed, Unix seconds.
    updated_at: float | None = None
    #: Why it gets nothing any more; empty while it does.
    disabled: str = ""
    #: Made for one job, not by the endpoint API: not listed there.
    inline: bool = False
    #: Whose it is; None where no keys are asked for.
    tenant: str | None = None

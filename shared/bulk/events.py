"""Events of bulk jobs: what is said to whom, and what has become of it."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from shared.bulk.jobs import Job, Kind, Record, WebhookEndpoint
from shared.bulk.lanes import sink_lane, webhook_lane

#: The segment of an event that is about the whole job.
WHOLE_JOB = -1


class EventType(StrEnum):
    """What an event says."""

    RESULTS = "job.results"  # a segment's results
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_EXPIRED = "job.expired"
    # OpenAI's, with its thin body.
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_CANCELLED = "batch.cancelled"
    BATCH_EXPIRED = "batch.expired"


class EventState(StrEnum):
    """What has become of an event."""

    PENDING = "pending"  # it is to be sent, or being sent
    DELIVERED = "delivered"
    DEAD = "dead"  # given up


class TargetKind(StrEnum):
    """What an event is sent to."""

    WEBHOOK = "webhook"  # an endpoint, by its id
    SINK = "sink"  # a sink of the operator's, by its name


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver of events."""

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read what `str` wrote."""
        kind, _, name = text.partition("-")
        return cls(TargetKind(kind), name)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of events, and the lane in which they wait for it."""

    target: Target
    lane: str

    @classmethod
    def webhook(cls, endpoint: WebhookEndpoint) -> "Receiver":
        """A webhook endpoint."""
        return cls(Target(TargetKind.WEBHOOK, endpoint.id), webhook_lane(endpoint.url))

    @classmethod
    def sink(cls, name: str) -> "Receiver":
        """A sink of the operator's."""
        return cls(Target(TargetKind.SINK, name), sink_lane(name))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be made."""

    id: str
    receiver: Receiver
    segment: int
    type: EventType

    @classmethod
    def of_segment(cls, job: Job, segment: int, receiver: Receiver) -> "NewEvent":
        """The event that carries a segment's results."""
        return cls(f"evt_{job.id}_{segment}_{receiver.target}", receiver, segment, EventType.RESULTS)

    @classmethod
    def of_end(cls, job: Job, receiver: Receiver) -> "NewEvent":
        """The event that says how a job ended."""
        return cls(f"evt_{job.id}_{mark_of_end(job)}_{receiver.target}", receiver, WHOLE_JOB, type_of_end(job))


class Attempt(Record):
    """How an attempt at delivery ended."""

    #: Unix seconds.
    at: float
    #: HTTP status, where there was an answer.
    status: int | None = None
    #: Why it failed; empty if it did not.
    error: str = ""
    ms: int = 0


class Event(Record):
    """An event as it stands."""

    id: str
    job: str
    target: str
    #: Where it waits for its receiver.
    lane: str
    #: Whether the job names its receiver; others only hear how the job ended, and it does not count them.
    own: bool = True
    segment: int
    type: EventType
    #: Unix seconds.
    created_at: int
    state: EventState
    #: Attempts that failed, or the one that did not, since it was made or replayed.
    attempts: int = 0
    #: Token of the lease that it was last given out under.
    lease: int = 0
    #: When it is tried again, Unix seconds.
    due_at: float | None = None
    log: list[Attempt] = Field(default_factory=list)


def type_of_end(job: Job) -> EventType:
    """The type of the event that says how a job ended."""
    prefix = "batch" if job.spec.kind is Kind.BATCH else "job"
    return EventType(f"{prefix}.{job.state}")


def mark_of_end(job: Job) -> str:
    """What tells an end of a job from another: a job may be resumed, and end again."""
    return f"{job.state}-{int(job.entered_at.get(str(job.state), 0))}"

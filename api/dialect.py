"""What a dialect is: the routes of one wire format, each parsed into common requests and rendered from common outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import BaseModel

from api.access.caller import ANYONE, Caller
from api.catalog import Catalog
from api.places import Place
from api.settings import ApiSettings
from shared.errors import MillraceError
from shared.jobs import Request
from shared.queues import Operation
from shared.results import Output

#: The paths at which clients look for embeddings ...
EMBEDDINGS_PATHS = ("/v1/embeddings", "/embeddings", "/openai/v1/embeddings", "/v3/embeddings")
#: ... and for scores of documents; every dialect's body is understood on each of them.
RERANK_PATHS = (
    "/v1/rerank",
    "/rerank",
    "/v2/rerank",
    "/openai/v1/rerank",
    "/v3/rerank",
    "/v1/reranking",
    "/reranking",
)


def led_by(path: str, paths: Sequence[str]) -> tuple[str, ...]:
    """The same paths with another canonical one."""
    return (path, *(other for other in paths if other != path))


@dataclass(frozen=True, slots=True)
class Context:
    """What a dialect needs to know beyond the body."""

    request_id: str
    #: Unix seconds.
    deadline: float
    #: What the caller may use.
    catalog: Catalog
    caller: Caller = ANYONE
    #: Whether documents are returned with their scores where a request does not say.
    return_documents: bool = False
    #: Whether the deadline is the deployment's, which leaves time for the start of a worker, and not the caller's own.
    is_patient: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A parsed HTTP request."""

    #: Model named by the caller, or None for the default.
    model: str | None
    #: What has to be done for it, of one operation.
    requests: Sequence[Request]
    #: Where their inputs stand in the body.
    place: Place
    #: Of a single embed request: references of images (URLs or base64) in the places of texts, None elsewhere; None when
    #: there are none.
    images: Sequence[str | None] | None = None
    #: The models of the requests, one for each, where they are not all `model`.
    models: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a job."""

    request_id: str
    #: The own name of the model that answered.
    model: str
    #: One for each request.
    outputs: Sequence[Output]
    #: From the request's first byte to here.
    seconds: float
    #: Own names of the models that answered the requests, one for each.
    models: Sequence[str] = ()

    @property
    def output(self) -> Output:
        """The output of a job of one request."""
        (only,) = self.outputs
        return only

    @property
    def tokens(self) -> int:
        """Tokens that the model read."""
        return sum(output.tokens for output in self.outputs)


def _any_body(_: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A POST route of a dialect. Its functions are pure: they see no Redis and no HTTP objects.

    Each path is served with and without a trailing slash, and again under `/<dialect's prefix>`.
    """

    #: The first is the canonical one. One with `{model}` in it names the model, which may have slashes.
    paths: Sequence[str]
    operation: Operation
    body: type[BaseModel]
    response: Any
    summary: str
    #: A body for the documentation.
    example: Mapping[str, Any]
    #: Turns a validated body into a job; raises a `MillraceError` where it makes no sense.
    parse: Callable[[Any, Context], Job]
    #: The body of a successful answer, as something that `wire.dumps` takes.
    render: Callable[[Any, Answer], Any]
    #: Where several dialects serve a path: the field by which a body is known to be in this one's words. Exactly one of
    #: those fields must be there ...
    key: str = ""
    #: ... and of the routes that share it, the first by precedence (highest first) that claims the body answers. It is shown
    #: the body without its nulls.
    claims: Callable[[Mapping[str, Any]], bool] = _any_body
    precedence: int = 0
    #: What `claims` looks at, as a JSON schema for the documentation. Left out where the body's own types say it.
    claim: Mapping[str, Any] = field(default_factory=dict)
    #: Fields with lists that take long to read, each entry of which is an input: too many of them are refused before they
    #: are read, and many are read beside the event loop.
    inputs: Sequence[str] = ()
    #: Whether equal ones among those are one input.
    repeats: bool = False
    #: Served under the dialect's prefix only: elsewhere another dialect answers the same body in its own way.
    prefix_only: bool = False

    def for_model(self, model: str) -> "Route":
        """The same route for a model that the path names (`{model}`); what the body says of it counts no more."""

        def parse(body: Any, context: Context) -> Job:
            body.model = model
            return self.parse(body, context)

        return replace(self, parse=parse)


@dataclass(frozen=True, slots=True)
class View:
    """A GET route of a dialect that needs no worker: a picture of the catalog."""

    path: str
    summary: str
    #: Given the catalog, the settings, and the values of the path's `{parameters}`; may raise a `MillraceError`.
    render: Callable[[Catalog, ApiSettings, Mapping[str, str]], Any]
    aliases: Sequence[str] = field(default_factory=tuple)
    #: What it answers, for the documentation.
    response: Any = None
    #: What it raises besides what every view does, for the documentation.
    errors: Sequence[type[MillraceError]] = ()
    #: Served under every dialect's prefix, as clients of all providers ask for it; else under its own dialect's only.
    is_common: bool = False


class Dialect(Protocol):
    """One wire format."""

    name: str
    #: Its routes are also served under this first part of a path, where no other dialect can claim a body; None for none.
    prefix: str | None
    routes: Sequence[Route]
    views: Sequence[View]
    #: Model of the body that `render_error` makes, for the documentation.
    error_body: type[BaseModel]

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        ...


def prefixes_of(dialects: Iterable[Dialect]) -> list[str]:
    """The first parts of paths under which dialects are served by themselves."""
    return sorted({dialect.prefix for dialect in dialects if dialect.prefix is not None})


def prefixed(prefixes: Iterable[str], paths: Sequence[str]) -> list[str]:
    """Paths under each of these prefixes; `/` there has no slash at its end."""
    return [f"/{prefix}{path}".rstrip("/") for prefix in prefixes for path in paths]


def view_paths(dialect: Dialect, view: View, prefixes: Iterable[str]) -> list[str]:
    """The paths of a view, the canonical one first.

    Args:
        dialect: The view's.
        view: The view.
        prefixes: Of all dialects.
    """
    own = [view.path, *view.aliases]
    if view.is_common:
        return own + prefixed(prefixes, own)
    return own + prefixed([dialect.prefix] if dialect.prefix is not None else [], own)

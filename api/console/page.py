"""The console's page and files: held in memory, served with a policy under which they reach nothing but this gateway."""

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Where the files lie; relative in the page, so that it works behind a proxy that adds a prefix.
_FOLDER = "/console/"
_PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Nothing inline, nothing from elsewhere, in nobody's frame; keys go nowhere but to this gateway.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Asked for again each time, and answered with 304 while it has not changed: a new version is seen at once.
    "cache-control": "no-cache",
}

Respond = Callable[[], Awaitable[Response]]


def _read() -> Mapping[str, tuple[bytes, Mapping[str, str]]]:
    """Content and headers of each file, by name."""
    found = {}
    for path in Path(__file__).parent.iterdir():
        if path.suffix in _TYPES:
            content = path.read_bytes()
            tag = f'"{sha256(content).hexdigest()[:16]}"'
            found[path.name] = content, {**_HEADERS, "content-type": _TYPES[path.suffix], "etag": tag}
    return found


_FILES = _read()
#: The paths of all files but the page.
CONSOLE_PATHS = frozenset(f"{_FOLDER}{name}" for name in _FILES if name != _PAGE)


def add_console(app: FastAPI) -> None:
    """Serve the files; the page itself is `front`'s."""

    def shows(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            return _file(request, name)

        return show

    app.router.routes += [Route(path, shows(path.removeprefix(_FOLDER))) for path in sorted(CONSOLE_PATHS)]


def front(otherwise: Respond) -> Callable[[Request], Awaitable[Response]]:
    """What answers at `/`: the page where a browser asks, and to all others what `otherwise` does."""

    async def answer(request: Request) -> Response:
        response = _file(request, _PAGE) if prefers_html(request.headers.get("accept", "")) else await otherwise()
        response.headers["vary"] = "Accept"
        return response

    return answer


def prefers_html(accept: str) -> bool:
    """Whether who sends this header would rather have HTML than JSON; who would take either gets JSON."""
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """How much a media type is wanted, from 0 to 1 (RFC 9110, section 12.5.1): the most specific range that fits counts."""
    best = -1, 0.0
    for entry in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        specific = {f"{kind}/{subtype}": 2, f"{kind}/*": 1, "*/*": 0}.get(media_range)
        if specific is not None and specific >= best[0]:
            best = specific, _weight(parameters)
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _file(request: Request, name: str) -> Response:
    content, headers = _FILES[name]
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=dict(headers))
    return Response(content, headers=dict(headers))

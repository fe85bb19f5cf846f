"""A stand-in of the model hub, which cannot be started here: the few endpoints that its own client asks for one model.

`/api/models/X/revision/R`, `/api/models/X/tree/R`, and `/X/resolve/R/F`, which sends small files itself and large ones (LFS)
by a redirection to another path, as the hub does to another host.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

#: What is stored by LFS, whatever its size.
_LARGE = (".safetensors", ".bin", ".pt", ".onnx")


@dataclass
class Repository:
    """A model's files at one commit."""

    files: Mapping[str, bytes]
    #: Asked of whoever wants to see it; nothing when empty.
    token: str = ""

    @property
    def commit(self) -> str:
        """Changes with the files."""
        told = repr(sorted((path, hashlib.sha1(data).hexdigest()) for path, data in self.files.items()))
        return hashlib.sha1(told.encode()).hexdigest()


@dataclass
class Hub:
    """The server, and how it behaves."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    #: Path of a request → refusals that the next such requests get, and their status.
    busy: Counter[str] = field(default_factory=Counter)
    busy_status: int = 429
    #: How many have been given.
    refused: int = 0
    #: What requests had in `authorization`.
    tokens: set[str | None] = field(default_factory=set)
    #: File → bytes after which the next transfers break off.
    cut: dict[str, list[int]] = field(default_factory=dict)
    #: File → what is sent in the place of its contents.
    forged: dict[str, bytes] = field(default_factory=dict)
    #: Requests by method and path.
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Whether a token came to the host of the large files.
    leaked: bool = False
    url: str = ""
    #: The same under another name: large files are on another host, which must not get the token.
    files_url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process ask this hub."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0"}

    def fetched(self, file: str) -> int:
        """How often a file's contents were asked for."""
        return sum(
            count for (method, path), count in self.requests.items() if method == "GET" and path.endswith(f"/{file}")
        )


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.files_url = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """The requests are counted instead."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests[self.command, path] += 1
        self.hub.tokens.add(self.headers.get("authorization"))
        if self.hub.busy[path] > 0:
            self.hub.busy[path] -= 1
            self.hub.refused += 1
            self._send(self.hub.busy_status, b"too many requests", {"retry-after": "1"})
            return
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            self.hub.leaked |= "authorization" in self.headers
            self._send_file("/".join(parts[1:3]), "/".join(parts[3:]), {})
        elif parts[:2] == ["api", "models"] and len(parts) in (4, 6):
            asked, revision = parts[4:] or ("revision", "main")
            self._describe("/".join(parts[2:4]), asked, revision)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse("EntryNotFound")

    def _repository(self, name: str, revision: str) -> Repository | None:
        """The repository, or None after the refusal."""
        found = self.hub.repositories.get(name)
        if found is None or (found.token and self.headers.get("authorization") != f"Bearer {found.token}"):
            self._refuse("RepoNotFound", 401)
            return None
        if revision not in ("main", found.commit):
            self._refuse("RevisionNotFound")
            return None
        return found

    def _describe(self, name: str, asked: str, revision: str) -> None:
        if (found := self._repository(name, revision)) is None:
            return
        described: Any = [_entry(path, data) for path, data in found.files.items()]
        if asked == "revision":
            siblings = [
                {
                    "rfilename": entry["path"],
                    "size": entry["size"],
                    "blobId": entry["oid"],
                    **({"lfs": {**entry["lfs"], "sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {}),
                }
                for entry in described
            ]
            described = {"_id": "1", "id": name, "modelId": name, "sha": found.commit, "siblings": siblings}
        self._send(200, json.dumps(described).encode(), {"content-type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if (found := self._repository(name, revision)) is None:
            return
        if file not in found.files:
            self._refuse("EntryNotFound")
            return
        entry = _entry(file, found.files[file])
        commit = {"x-repo-commit": found.commit}
        if "lfs" in entry:
            linked = {"x-linked-etag": f'"{entry["lfs"]["oid"]}"', "x-linked-size": str(entry["size"])}
            self._send(302, b"", {**commit, **linked, "location": f"{self.hub.files_url}/cdn/{name}/{file}"})
        else:
            self._send_file(name, file, {**commit, "etag": f'"{entry["oid"]}"'})

    def _send_file(self, name: str, file: str, headers: Mapping[str, str]) -> None:
        data = self.hub.forged.get(file, self.hub.repositories[name].files[file])
        asked = self.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        start = int(asked or 0)
        ranged = {"content-range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        cuts = self.hub.cut.get(file, [])
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self._send(206 if asked else 200, data[start:], {**headers, **ranged, "accept-ranges": "bytes"}, cut)

    def _refuse(self, code: str, status: int = 404) -> None:
        self._send(status, b"{}", {"x-error-code": code, "x-error-message": code})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """A file as the tree tells it."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry

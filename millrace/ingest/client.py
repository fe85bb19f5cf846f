"""The deployment's routes for jobs, asked again where that helps."""

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import orjson

from millrace.ingest.problems import InputProblem, ServiceProblem

#: How long a deployment may be away before it is given up, in seconds.
PATIENCE_S = 300.0
#: Pauses before it is asked again, in seconds.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
#: Statuses after which the same request may succeed.
_PASSING = frozenset({429, 502, 503, 504})

_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
#: How long results may be silent before they are asked for again, in seconds.
_FOLLOW_TIMEOUT = httpx.Timeout(5.0, connect=10.0)

_INDEX = re.compile(rb'\{"index":(\d+)')

FINAL_STATUSES = frozenset({"completed", "failed", "cancelled", "expired"})


class Conflict(ServiceProblem):
    """The request does not fit the state of the job."""


class _Passing(Exception):
    """It may succeed a little later."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Client:
    """Jobs of one deployment. May be used by several threads."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: The gateway.
            api_key: Sent as a bearer token.

        Raises:
            InputProblem: The URL is none.
        """
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=False)
            if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
                raise InputProblem(f"--url {url!r} must begin with http:// or https:// and name a host")
        except httpx.InvalidURL as err:
            raise InputProblem(f"--url {url!r} is no URL: {err}") from err
        #: Set to end all waiting.
        self.stopped = threading.Event()

    def create_job(self, options: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Begin a job without documents; the job, and the secret of its webhook if one was made.

        Raises:
            ServiceProblem: No gateway is there, or it refuses.
        """
        # Not repeated: who starts the command with a wrong URL should hear so at once.
        try:
            response = self._answered("POST", "/v1/jobs", json=options)
            return self._read(response), response.headers.get("x-webhook-secret")
        except _Passing as err:
            raise ServiceProblem(str(err)) from err

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it stands.

        Raises:
            ServiceProblem: It is gone, or the deployment is.
        """
        return self._ask("GET", f"/v1/jobs/{job_id}")

    def glance(self, job_id: str) -> dict[str, Any] | None:
        """A job as it stands; None when the deployment does not answer just now."""
        try:
            return self._once("GET", f"/v1/jobs/{job_id}")
        except ServiceProblem:
            return None

    def append(self, job_id: str, body: bytes, *, offset: int, more: bool) -> None:
        """Send documents.

        Args:
            job_id: Of which job.
            body: NDJSON, gzip'd.
            offset: Number of the first document.
            more: Whether others follow.

        Raises:
            Conflict: The job does not take these.
            ServiceProblem: The deployment refuses, or is gone.
        """
        self._ask(
            "POST",
            f"/v1/jobs/{job_id}/documents",
            params={"offset": offset, "more": "true" if more else "false"},
            content=body,
            headers={"content-type": "application/x-ndjson", "content-encoding": "gzip"},
        )

    def results(self, job_id: str, *, offset: int, encoding: str) -> Iterator[list[bytes]]:
        """Result lines from document `offset` on, as they come, until the job ends.

        Yields nothing but an empty list when it has been quiet for a while, so that the caller can look around.

        Raises:
            ServiceProblem: The results are gone, or the deployment is.
        """
        patience = _Patience(self.stopped)
        while True:
            start = offset
            try:
                for lines in self._streamed(job_id, offset, encoding):
                    patience.renew()
                    next_ones = list(_in_order(lines, offset))
                    offset += len(next_ones)
                    yield next_ones
                    if len(next_ones) < len(lines):
                        break
                job = self.job(job_id)
                if job["status"] in FINAL_STATUSES:
                    if offset >= job["available"]:
                        return
                    if offset == start:
                        raise ServiceProblem(f"the results from document {offset:,} on are not there any more")
                patience.wait(_Passing("the results end too early"))
            except httpx.ReadTimeout:
                yield []
            except _Passing as err:
                yield []
                patience.wait(err)

    def resume(self, job_id: str) -> dict[str, Any]:
        """Let a job go on that had ended before it was complete; the job.

        Raises:
            ServiceProblem: It cannot.
        """
        return self._ask("POST", f"/v1/jobs/{job_id}/resume")

    def cancel(self, job_id: str) -> None:
        """Stop a job.

        Raises:
            ServiceProblem: It cannot be stopped.
        """
        self._once("POST", f"/v1/jobs/{job_id}/cancel")

    def delete(self, job_id: str) -> None:
        """Remove a finished job and its results.

        Raises:
            ServiceProblem: It cannot be removed.
        """
        self._once("DELETE", f"/v1/jobs/{job_id}")

    def _streamed(self, job_id: str, offset: int, encoding: str) -> Iterator[list[bytes]]:
        """Whole lines of one answer, as many at a time as have come."""
        request = self._http.build_request(
            "GET",
            f"/v1/jobs/{job_id}/results",
            params={"offset": offset, "encoding": encoding, "follow": "true"},
            # Vectors in base64 hardly get smaller.
            headers={"accept-encoding": "identity"} if encoding == "base64" else {},
            timeout=_FOLLOW_TIMEOUT,
        )
        try:
            with closing(self._http.send(request, stream=True)) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    self._refuse(response)
                begun = b""
                for piece in response.iter_bytes():
                    *lines, begun = (begun + piece).split(b"\n") if b"\n" in piece else [begun + piece]
                    if lines := [line for line in lines if line]:
                        yield lines
        except httpx.ReadTimeout:
            raise
        except httpx.TransportError as err:
            raise _Passing(_why(err)) from err

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request until it is answered."""
        patience = _Patience(self.stopped)
        while True:
            try:
                return self._sent(method, path, **request)
            except _Passing as err:
                patience.wait(err)

    def _once(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            return self._sent(method, path, **request)
        except _Passing as err:
            raise ServiceProblem(str(err)) from err

    def _sent(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return self._read(self._answered(method, path, **request))

    def _answered(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as err:
            raise _Passing(f"no gateway answers at {self.url}: {_why(err)}") from err
        if not response.is_success:
            self._refuse(response)
        return response

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ServiceProblem(f"{self.url} does not answer as a Millrace gateway does")
        return answer

    def _refuse(self, response: httpx.Response) -> None:
        """Raise what an error's answer says."""
        message = _message(response)
        if message is None:
            path = response.request.url.path
            message = f"{self.url} answered {response.status_code} to {path}; is it a Millrace gateway with bulk jobs?"
        if response.status_code in _PASSING:
            after = response.headers.get("retry-after", "")
            raise _Passing(message, float(after) if after.isdigit() else None)
        if response.status_code == httpx.codes.CONFLICT:
            raise Conflict(message)
        raise ServiceProblem(message)


class _Patience:
    """How long the same thing is tried."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self.renew()

    def renew(self) -> None:
        """It has worked."""
        self._until = time.monotonic() + PATIENCE_S
        self._pause_s = _FIRST_PAUSE_S

    def wait(self, err: _Passing) -> None:
        """Wait a little before the next try.

        Raises:
            ServiceProblem: It has been tried for long enough.
        """
        if time.monotonic() > self._until or self._stopped.is_set():
            raise ServiceProblem(str(err)) from err
        self._stopped.wait(err.after_s or self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311 no secret
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)


def _in_order(lines: list[bytes], index: int) -> Iterator[bytes]:
    """Lines as long as they follow each other: of a job that was stopped, some in the middle are missing."""
    for line in lines:
        match = _INDEX.match(line)
        if (int(match[1]) if match else orjson.loads(line)["index"]) != index:
            return
        yield line
        index += 1


def _message(response: httpx.Response) -> str | None:
    try:
        error = response.json()["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _why(err: httpx.TransportError) -> str:
    return str(err).lower().removeprefix("[errno ").split("] ")[-1] or type(err).__name__

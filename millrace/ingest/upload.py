"""The upload: documents in parts of some megabytes, beside whatever else goes on."""

import gzip
import threading
from collections.abc import Iterator

from millrace.ingest.client import Client, Conflict
from millrace.ingest.ledger import Ledger
from millrace.ingest.problems import ServiceProblem
from millrace.ingest.readers import Corpus

#: Bytes of documents that are sent together.
PART_BYTES = 4 << 20
#: Pause before a part is sent again that another connection still holds, in seconds, and how often.
_CONFLICT_PAUSE_S, _CONFLICT_TRIES = 0.5, 20


class _Moved(Exception):
    """The job has another number of documents than this upload thinks."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


class Upload(threading.Thread):
    """Sends a corpus to a job, from the document on that the job does not have yet."""

    def __init__(
        self,
        client: Client,
        job_id: str,
        corpus: Corpus,
        documents: Iterator[bytes],
        start: int,
        ledger: Ledger | None = None,
    ) -> None:
        """Prepare it.

        Args:
            client: Of the deployment.
            job_id: Where the documents go.
            corpus: Where they come from.
            documents: The first ones to be sent.
            start: Number of the first of them.
            ledger: Where what has arrived is written down; it has seen what stands before them.
        """
        super().__init__(name="upload", daemon=True)
        self._client = client
        self._job_id = job_id
        self._corpus = corpus
        self._documents = documents
        self._ledger = ledger
        #: Documents that have arrived, and bytes of them that were sent.
        self.sent = start
        self.sent_bytes = 0
        #: Whether all have.
        self.is_complete = False
        self._problem: BaseException | None = None

    def run(self) -> None:
        """Send everything."""
        try:
            self._send_all()
        except BaseException as err:  # noqa: BLE001 it is raised where the upload is watched
            self._problem = err

    def check(self) -> None:
        """See that it goes well.

        Raises:
            InputProblem: The corpus cannot be read on.
            ServiceProblem: The deployment does not take it.
        """
        if self._problem is not None:
            raise self._problem

    def _send_all(self) -> None:
        while True:
            try:
                for part, is_last in parts(self._documents):
                    self._send(part, is_last=is_last)
                    if self._client.stopped.is_set():
                        return
            except _Moved as moved:
                if not self._corpus.is_rereadable:
                    raise ServiceProblem(
                        f"the job has {moved.received:,} documents only, and a pipe cannot be read again"
                    ) from moved
                self.sent = moved.received
                if self._ledger:
                    self._ledger.restart()
                self._documents = self._corpus.documents(
                    moved.received, seen=self._ledger.seen if self._ledger else None
                )
            else:
                self.is_complete = True
                return

    def _send(self, part: list[bytes], *, is_last: bool) -> None:
        for _ in range(_CONFLICT_TRIES):
            body = b"".join(line + b"\n" for line in part)
            try:
                self._client.append(self._job_id, gzip.compress(body, 1), offset=self.sent, more=not is_last)
            except Conflict as err:
                # Sent twice, because the first answer was lost or its connection is still being read.
                status, arrived = self._arrived(part, err)
                self._note(part[:arrived])
                part = part[arrived:]
                if not part and not (is_last and status == "receiving"):
                    return
                conflict = err
                self._client.stopped.wait(_CONFLICT_PAUSE_S)
            else:
                self._note(part)
                self.sent_bytes += len(body)
                return
        raise conflict

    def _note(self, documents: list[bytes]) -> None:
        """Documents have arrived."""
        self.sent += len(documents)
        if self._ledger:
            self._ledger.sent(documents)

    def _arrived(self, part: list[bytes], err: Conflict) -> tuple[str, int]:
        """The job's status, and how many documents of a part it has."""
        job = self._client.job(self._job_id)
        status, arrived = job["status"], job["counts"]["received"] - self.sent
        if status != "receiving" and arrived != len(part):
            raise err
        if not 0 <= arrived <= len(part):
            raise _Moved(job["counts"]["received"])
        return status, arrived


def parts(documents: Iterator[bytes]) -> Iterator[tuple[list[bytes], bool]]:
    """Documents in parts of `PART_BYTES`, each with whether it is the last one, which may be empty."""
    part: list[bytes] = []
    size = 0
    for document in documents:
        if part and size + len(document) > PART_BYTES:
            yield part, False
            part, size = [], 0
        part.append(document)
        size += len(document) + 1
    yield part, True

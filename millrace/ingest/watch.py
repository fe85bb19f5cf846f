"""Looks at a job every now and then, beside whatever else goes on, and shows how it stands."""

import threading
from typing import Any

from millrace.ingest.client import FINAL_STATUSES, Client
from millrace.ingest.progress import Display, Standing
from millrace.ingest.upload import Upload
from millrace.ingest.writers import Writer

_PERIOD_S = 0.5


class Watch(threading.Thread):
    """Shows the job until it has ended, or until it is told to stop."""

    def __init__(
        self, client: Client, job: dict[str, Any], display: Display, upload: Upload | None, writer: Writer | None
    ) -> None:
        """Prepare it.

        Args:
            client: Of the deployment.
            job: As it stands.
            display: Where it is shown.
            upload: What still sends documents, if anything does.
            writer: What writes results, if anything does.
        """
        super().__init__(name="watch", daemon=True)
        self._client = client
        self._display = display
        self._upload = upload
        self._writer = writer
        #: The job as it was last seen.
        self.job = job
        #: Set when it has ended.
        self.has_ended = threading.Event()

    def run(self) -> None:
        """Look and show."""
        while not self._client.stopped.wait(_PERIOD_S):
            self.look()

    def look(self) -> None:
        """Look and show once."""
        seen = self._client.glance(self.job["id"])
        self.job = seen or self.job
        self._display.show(self._standing(is_away=seen is None))
        if self.job["status"] in FINAL_STATUSES:
            self.has_ended.set()

    def _standing(self, *, is_away: bool) -> Standing:
        counts = self.job["counts"]
        upload = self._upload
        return Standing(
            sent=max(upload.sent if upload else 0, counts["received"]),
            sent_bytes=upload.sent_bytes if upload else 0,
            all_sent=upload.is_complete if upload else True,
            done=counts["completed"] + counts["failed"],
            failed=counts["failed"],
            tokens=self.job["tokens"],
            rate=self.job["rate"],
            left_s=self.job["eta_s"],
            written=self._writer.next_index if self._writer else None,
            is_away=is_away,
        )

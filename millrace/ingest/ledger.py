"""What is kept beside an output while its job has not completed: whose it is, and which documents were sent.

`<output>.job` is JSON: `job`, and `digest`, the SHA-256 of the first `sent` documents as lines. It is written before the
output and removed when the output is complete, so that no run continues what is not its job's, or with other documents.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import orjson

from millrace.ingest.problems import InputProblem


class Ledger:
    """The file beside one output."""

    def __init__(self, output: Path, job_id: str) -> None:
        """Begin one, which is not written yet.

        Args:
            output: The output file.
            job_id: The job whose results it gets.
        """
        self._path = ledger_path(output)
        self.job_id = job_id
        #: How many documents were sent when it was written last, and their digest.
        self._sent, self._digest = 0, ""
        self.restart()

    @classmethod
    def of(cls, output: Path) -> Self | None:
        """The one that lies beside an output; None where there is none."""
        try:
            kept = orjson.loads(ledger_path(output).read_bytes())
            ledger = cls(output, str(kept["job"]))
            ledger._sent, ledger._digest = int(kept["sent"]), str(kept["digest"])
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as err:
            raise InputProblem(f"{ledger_path(output)} is damaged; choose another file with -o") from err
        return ledger

    def restart(self) -> None:
        """The documents are read from the first one again."""
        self._hash, self._count = hashlib.sha256(), 0

    def seen(self, document: bytes) -> None:
        """A document that was sent before is read again.

        Raises:
            InputProblem: The documents up to here are not those that were sent.
        """
        self._add(document)
        if self._count == self._sent and self._hash.hexdigest() != self._digest:
            raise InputProblem(
                f"the files have changed: their first {self._sent:,} documents are not those that the job has; "
                "give the same ones, or begin a new job"
            )

    def sent(self, documents: Sequence[bytes]) -> None:
        """Documents have arrived."""
        for document in documents:
            self._add(document)
        self._sent, self._digest = self._count, self._hash.hexdigest()
        self.write()

    def write(self) -> None:
        """Write it, whole or not at all."""
        torn = self._path.with_name(f"{self._path.name}.tmp")
        torn.write_bytes(orjson.dumps({"job": self.job_id, "sent": self._sent, "digest": self._digest}))
        torn.replace(self._path)

    def remove(self) -> None:
        """The output is complete."""
        self._path.unlink(missing_ok=True)

    def _add(self, document: bytes) -> None:
        self._hash.update(document + b"\n")
        self._count += 1


def ledger_path(output: Path) -> Path:
    """The file that belongs to an output."""
    return output.with_name(f"{output.name}.job")

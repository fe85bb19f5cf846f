"""One run at a time writes an output file: two that continue it together would mix their rows."""

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO

from millrace.ingest.problems import InputProblem


def hold(output: Path) -> IO[str]:
    """Keep other runs on this machine from an output file, until the process ends or the file returned is closed.

    The lock is on a file of its own among the temporary files: outputs are replaced and removed while they are written.

    Raises:
        InputProblem: Another run is writing it.
    """
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    lock = (Path(tempfile.gettempdir()) / f"millrace-ingest-{os.getuid()}-{name}.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        lock.close()
        raise InputProblem(f"-o {output}: another run of millrace ingest is writing it") from err
    return lock

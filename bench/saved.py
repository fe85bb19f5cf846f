"""Where the figures of a run are kept, unless the caller says where."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent / "results" / "local"


def path_for(given: Path | None, prefix: str = "") -> Path:
    """Where to write.

    Args:
        given: As the caller said.
        prefix: What the name begins with if he did not; the date follows.
    """
    return given or _RESULTS / f"{prefix}{datetime.now().astimezone():%Y-%m-%dT%H-%M-%S}.json"


def save(data: dict[str, Any], path: Path) -> None:
    """Write figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")

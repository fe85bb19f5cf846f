"""What a model's folder is called, where its files do not say what the model is for."""

from pathlib import Path

#: The hub's cache: models--OWNER--NAME/snapshots/COMMIT.
_SNAPSHOTS = "snapshots"


def says(folder: Path, word: str) -> bool:
    """Whether a word is in the name: the folder's own, or in the hub's cache the repository's. Lower case counts.

    Folders above it are named for other reasons: all models of a search may lie in `/srv/rerank-service`.
    """
    in_cache = folder.parent.name == _SNAPSHOTS
    return word in (folder.parent.parent if in_cache else folder).name.lower()

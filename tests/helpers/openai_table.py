"""OpenAI's table of token ids, from a package that carries it: a folder as tiktoken's downloads leave it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

#: What tiktoken calls the file: the SHA-1 of the URL that it downloads it from.
_CACHED_AS = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # pragma: allowlist secret


def fill(folder: Path) -> Path:
    """Put the table where tiktoken finds it when `TIKTOKEN_CACHE_DIR` names the folder."""
    spec = find_spec("tiktoken_ext")
    if spec is None or spec.submodule_search_locations is None:
        raise AssertionError("tiktoken is not installed")
    carried = next(Path(place) / "data" / "cl100k_base.tiktoken" for place in spec.submodule_search_locations)
    folder.mkdir(exist_ok=True)
    shutil.copy(carried, folder / _CACHED_AS)
    return folder

"""What models call their prompts for the two sides of a search, and which of them a folder has.

Files, not clients, are what the names come from: clients' words for a purpose are in `api.prompts`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Names of the prompt for each side, by `input_type`; the first that a folder has is used. Those of sentence-transformers
#: come first, in its order.
PROMPT_NAMES: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "retrieval.query", "search_query"),
    "document": ("document", "passage", "corpus", "retrieval.passage", "search_document"),
}


def unstated_prompts(folder: Path, prompts: Mapping[str, str | None]) -> list[str]:
    """Names of the empty prompts that a folder's own file does not have.

    sentence-transformers gives every model a prompt `query` and a prompt `document`. Taken for the folder's, they would
    stand before those that it has under other names. One that its file says is empty is meant: nothing goes in front.

    Args:
        folder: Files of the model.
        prompts: Its prompts as sentence-transformers has them.
    """
    path = folder / "config_sentence_transformers.json"
    settings: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    stated = settings.get("prompts") or {}
    return [name for name in PROMPT_NAMES if name in prompts and not prompts[name] and stated.get(name) is None]

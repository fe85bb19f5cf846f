"""The texts of a run, and the vectors that they have while nothing is wrong."""

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

MODEL = "all-MiniLM-L6-v2"
#: From 8 words to 32, 17 on average, so that two cores have room for bulk work beside 30 requests/s. No two are alike.
TEXTS = [f"The {number}th mill stands by {'fast and ' * ((number % 8) ** 2 // 4)}cold water." for number in range(64)]
#: How far a vector may be from its reference in any dimension; its batch's company changes the last bits.
TOLERANCE = 1e-5

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def reference_vectors(client: httpx.Client) -> Vectors:
    """A row for each of `TEXTS`, asked for one at a time."""
    rows = []
    for text in TEXTS:
        answer = client.post("/v1/embeddings", json={"model": MODEL, "input": text})
        answer.raise_for_status()
        rows.append(answer.json()["data"][0]["embedding"])
    return np.array(rows, np.float32)


def decoded(embedding: str | Sequence[float]) -> Vectors:
    """A vector as it stands in an answer: numbers, or base64 of their bytes."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.array(embedding, np.float32)


def is_close(vectors: Vectors, reference: Vectors) -> bool:
    """Whether vectors are those of the reference."""
    return vectors.shape == reference.shape and bool(np.allclose(vectors, reference, rtol=0, atol=TOLERANCE))

"""Hugging Face's inference endpoints: the bare `/` (`InferenceClient`, LangChain, Haystack), SageMaker's `/invocations`.

Such clients are given a URL and send it the task's body, which is TEI's; the body says what to do, or else the model does.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from api import tei_bodies
from api.dialect import Dialect, Route, View
from api.error_bodies import TeiError
from shared.errors import MillraceError
from shared.queues import Operation

_PATHS = ("/", "/invocations", "/pipeline/feature-extraction")


class HuggingFace:
    """Hugging Face's words."""

    name = "huggingface"
    #: These are TEI's routes too.
    prefix: str | None = "tei"
    error_body: type[BaseModel] = TeiError
    routes: Sequence[Route] = (
        Route(
            paths=_PATHS,
            operation=Operation.EMBED,
            body=tei_bodies.MAIN.body,
            response=tei_bodies.MAIN.response,
            summary="What the default model is made for (Hugging Face, SageMaker)",
            example={"inputs": ["The weather is lovely today."]},
            parse=tei_bodies.MAIN.parse,
            render=tei_bodies.MAIN.render,
            key="inputs",
        ),
        Route(
            paths=_PATHS,
            operation=Operation.EMBED,
            body=tei_bodies.SIMILARITY.body,
            response=tei_bodies.SIMILARITY.response,
            summary="Cosine similarities of texts with a source (Hugging Face)",
            example={
                "inputs": {
                    "source_sentence": "The weather is lovely today.",
                    "sentences": ["It's so sunny outside!", "He drove to the stadium."],
                },
                "parameters": {},
            },
            parse=tei_bodies.SIMILARITY.parse,
            render=tei_bodies.SIMILARITY.render,
            key="inputs",
            claims=tei_bodies.is_similarity,
            precedence=1,
        ),
        Route(
            paths=_PATHS,
            operation=Operation.RERANK,
            body=tei_bodies.RERANK.body,
            response=tei_bodies.RERANK.response,
            summary="Score texts against a query (Hugging Face)",
            example={"query": "How is the weather?", "texts": ["It's so sunny outside!", "He drove to the stadium."]},
            parse=tei_bodies.RERANK.parse,
            render=tei_bodies.RERANK.render,
            key="texts",
        ),
    )
    views: Sequence[View] = ()

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """TEI's error object: `InferenceClient` shows its `error`."""
        return tei_bodies.render_error(error)


PLUGIN: Dialect = HuggingFace()

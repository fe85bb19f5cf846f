"""Reranking in the words that Cohere's, Jina's, vLLM's and Infinity's clients share: one body, and parts of their answers.

Their requests are alike; what differs is a default and the form in which a document is returned. The shared paths answer
with a superset; each dialect's own prefix answers as its provider does where that cannot be reconciled.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, WithJsonSchema

from api import scores, wire
from api.dialect import Answer, Context, Job
from api.documents import Document, FieldsDocument, QueryDocument, TextDocument, as_object, text_of
from api.fields import Documented, Integer, Listed, Several, SomeTokens, Switch, either
from api.places import ranked
from api.synonyms import agreed
from api.truncation import TruncationFields
from shared.errors import InvalidRequest
from shared.jobs import RerankRequest


def _zero(value: int) -> int:
    if value:
        raise ValueError("can only be 0: the query is never cut")
    return value


#: Each takes a look at each document.
_MOST_RANK_FIELDS = 32
_Zero = Annotated[Integer, AfterValidator(_zero), Documented(const=0)]
_TemplateFields = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"instruction": {"type": ["string", "null"]}},
            "additionalProperties": False,
        }
    ),
]


class ScoringFields(TruncationFields):
    """Fields of a request about how documents are scored."""

    model: str | None = Field(None, description="Name of the model; the default reranker when absent.")
    raw_scores: bool | None = Field(
        None, description="Scores as the model gives them instead of 0 to 1 (TEI, Infinity)."
    )
    use_activation: bool | None = Field(None, description="The opposite (vLLM): false gives the model's own scores.")
    instruction: str | None = Field(None, description="The task in words, for models whose template takes it (vLLM).")
    chat_template_kwargs: _TemplateFields | None = Field(
        None, description="May have an `instruction`, which goes before the field of that name (vLLM)."
    )
    max_tokens_per_doc: SomeTokens | None = Field(
        None,
        description="Cut each document to so many tokens of its own (Cohere), and where it and the query fill the model's "
        "longest input.",
    )
    max_tokens_per_query: _Zero | None = Field(None, description="Always 0 (vLLM): the query is never cut.")

    def scoring(self) -> dict[str, Any]:
        """What a rerank request says of it.

        Raises:
            InvalidRequest: Two fields contradict each other, or the template would be given what it has no place for.
        """
        given = dict(self.chat_template_kwargs or {})
        instruction = given.pop("instruction", None)
        if given or not isinstance(instruction, str | None):
            raise InvalidRequest(
                "`chat_template_kwargs` may have an `instruction`, a string, and nothing else",
                param="chat_template_kwargs",
            )
        activated = self.use_activation
        raw = agreed({"raw_scores": self.raw_scores, "use_activation": None if activated is None else not activated})
        return {
            "raw_scores": bool(raw),
            "instruction": instruction or self.instruction,
            "max_document_tokens": self.max_tokens_per_doc,
            **self.cutting(),
        }


class RerankBody(ScoringFields):
    """Request of `POST /v1/rerank`. Unknown fields are ignored, null means absent."""

    model_config = either(
        {
            "properties": {
                "rank_fields": {"enum": [None, []]},
                "documents": TypeAdapter(list[TextDocument]).json_schema(),
            }
        },
        {"required": ["rank_fields"], "properties": {"rank_fields": {"type": "array", "minItems": 1}}},
    )

    query: QueryDocument = Field(description='A text, or `{"text": ...}`.')
    documents: Several[FieldsDocument] = Field(
        description="Texts, or objects with a `text` or with fields that `rank_fields` names."
    )
    top_n: Integer | None = Field(None, description="Return only the best so many; null, 0 or too many mean all.")
    return_documents: Switch | None = Field(
        None, description="Repeat each document in its result; when absent, as `MILLRACE_RETURN_DOCUMENTS` says."
    )
    rank_fields: Annotated[Listed[str], Field(max_length=_MOST_RANK_FIELDS)] | None = Field(
        None,
        description="Fields of objects that are read, in this order, each once (Cohere v1); `text` when absent.",
    )

    def texts(self) -> list[str]:
        """What is read of the documents.

        Raises:
            InvalidRequest: One has no text.
        """
        # Repeated, one long field would be as many texts as it has repetitions, in each document.
        rank_fields = list(dict.fromkeys(self.rank_fields or ()))
        return [text_of(document, f"documents[{index}]", rank_fields) for index, document in enumerate(self.documents)]


class ReturnedDocument(BaseModel):
    """A document that was asked back: its text, and for an object its other fields too."""

    text: str


class RerankResult(BaseModel):
    """One scored document."""

    index: int
    relevance_score: float
    document: ReturnedDocument | None = None


def parse(body: RerankBody, context: Context) -> Job:
    """The job of a body.

    Raises:
        InvalidRequest: Options contradict each other, or a document has no text.
    """
    if body.return_documents is None and context.return_documents:
        body.return_documents = True
    query, texts = text_of(body.query, "query"), body.texts()
    wire.refuse_empty([query], "query")
    wire.refuse_none(texts, "documents")
    request = RerankRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        query=query,
        documents=texts,
        **body.scoring(),
    )
    return Job(model=body.model, requests=[request], place=ranked("documents"))


def returned_object(document: Document, text: str) -> Any:
    """A document as most providers return it."""
    return as_object(document, text)


def returned_text(document: Document, text: str) -> Any:  # noqa: ARG001 - the form of `results`
    """A document as Infinity and Voyage return it: the text that was read."""
    return text


def results(
    body: RerankBody,
    answer: Answer,
    *,
    best: int | None,
    returned: Callable[[Document, str], Any] | None,
) -> list[dict[str, Any]]:
    """The scored documents, best first, ties in the order in which they came.

    Args:
        body: The request.
        answer: Its scores.
        best: How many to return; None, 0 or too many mean all.
        returned: The form of a document in its result; None for none.
    """
    texts = body.texts() if returned is not None else []
    found: list[dict[str, Any]] = []
    for index, score in scores.ranked(answer.output, best):
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if returned is not None:
            result["document"] = returned(body.documents[index], texts[index])
        found.append(result)
    return found

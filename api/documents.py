"""Documents to rerank: texts, or objects of which some fields are read."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import WithJsonSchema

from api.places import field_of
from shared.errors import ContradictoryFields, InvalidRequest

#: A text, or an object: with a `text` (Cohere, Jina), with a `content` of parts (vLLM), or with fields of the caller's own.
Document = str | dict[str, Any]


def _texts(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Schemas of a text that is this, and of the objects that have one."""
    in_object = {"type": "object", "required": ["text"], "properties": {"text": text}}
    in_content = {
        "type": "object",
        "required": ["content"],
        "properties": {
            "text": {"type": "null"},
            "content": {"type": "array", "minItems": 1, "maxItems": 1, "items": in_object},
        },
    }
    return [text, in_object, in_content]


_TEXT = {"type": "string"}
#: A query: it has its text where it is always read, and that is not empty.
QueryDocument = Annotated[Document, WithJsonSchema({"anyOf": _texts({**_TEXT, "minLength": 1})})]
#: The same of a document to score. It may be empty, as one chunk of a page may: the others still have scores.
TextDocument = Annotated[Document, WithJsonSchema({"anyOf": _texts(_TEXT)})]
#: One of which the request names the fields that are read.
FieldsDocument = Annotated[Document, WithJsonSchema({"anyOf": [_TEXT, {"type": "object", "minProperties": 1}]})]


def text_of(document: Document, where: str, rank_fields: Sequence[str] | None = None) -> str:
    """What is read of a document, or of a query.

    Args:
        document: As it was sent.
        where: Its name in messages, its field first: `documents[3]`.
        rank_fields: Fields that are read of an object, in this order, one a line (Cohere v1).

    Raises:
        InvalidRequest: It has no text.
        ContradictoryFields: It has none in the fields that are read.
    """
    if isinstance(document, str):
        return document
    param = field_of(where)
    if rank_fields:
        values = [document[name] for name in rank_fields if document.get(name) is not None]
        joined = "\n".join(str(value) for value in values if isinstance(value, (str, int, float)))
        if not values or not all(isinstance(value, (str, int, float)) for value in values):
            raise ContradictoryFields(
                f"`{where}` has no text or number in the `rank_fields` {list(rank_fields)}", param=param
            )
        return joined
    text = document.get("text")
    if text is None and isinstance(document.get("content"), list):
        text = _text_of_parts(document["content"])
    if not isinstance(text, str):
        wanted = "a string, or an object with a `text` or with the fields named in `rank_fields`"
        raise InvalidRequest(f"`{where}` has no text; a document is {wanted}", param=param)
    return text


def _text_of_parts(parts: Sequence[Any]) -> str | None:
    """The text of a content that is one part of text; images cannot be scored."""
    only = parts[0] if len(parts) == 1 else None
    text = only.get("text") if isinstance(only, dict) else None
    return text if isinstance(text, str) else None


def as_object(document: Document, text: str) -> dict[str, Any]:
    """A document as it is returned: its own fields, and always the text that was read."""
    if isinstance(document, str):
        return {"text": document}
    return document if isinstance(document.get("text"), str) else {**document, "text": text}

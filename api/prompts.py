"""Prompts: what clients call the purpose of a text.

Retrieval models embed queries and documents differently, some know further purposes. Cohere and Voyage say `input_type`,
Jina `task`, sentence-transformers and TEI name a prompt, others send its words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from api.fields import Documented, RequestFields
from api.synonyms import agreed
from shared.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a text is embedded for."""

    #: `query` or `document` where it is one side of a search, else None.
    input_type: str | None = None
    #: What models call their prompt for it; the first that a model has is used, else that of the `input_type`, whose names
    #: the workers know.
    prompt_names: Sequence[str] = ()

    def fields(self) -> dict[str, Any]:
        """What an embed request says of it."""
        return {"input_type": self.input_type, "prompt_names": list(self.prompt_names)}


def _code(kind: str) -> dict[str, Purpose]:
    """The two sides of a search in code."""
    return {
        f"{kind}.query": Purpose("query", (f"{kind}.query", f"{kind}_query")),
        f"{kind}.passage": Purpose("document", (f"{kind}.passage", f"{kind}_document")),
    }


_QUERY = Purpose("query")
_DOCUMENT = Purpose("document")

#: By what Cohere, Voyage, Jina and their imitators call it. Names of prompts are those in the models' own files.
PURPOSES: dict[str, Purpose] = {
    "query": _QUERY,
    "search_query": _QUERY,
    "retrieval.query": _QUERY,
    "document": _DOCUMENT,
    "passage": _DOCUMENT,
    "search_document": _DOCUMENT,
    "retrieval.passage": _DOCUMENT,
    "classification": Purpose(None, ("classification", "Classification")),
    "clustering": Purpose(None, ("clustering", "Clustering")),
    "separation": Purpose(None, ("separation", "clustering", "Clustering")),
    "text-matching": Purpose(None, ("text-matching", "STS")),
    "image": Purpose(),
    **_code("code"),
    **_code("nl2code"),
    **_code("code2code"),
    **_code("code2nl"),
    **_code("code2completion"),
    **_code("qa"),
}


#: A client's word for a purpose.
PurposeName = Annotated[str, Documented(enum=list(PURPOSES))]


def purpose_of(word: str | None, param: str) -> Purpose:
    """What a client's word means.

    Args:
        word: `search_query`, `retrieval.passage`, …; None where nothing in particular was said.
        param: The field that has it.

    Raises:
        InvalidRequest: Nobody calls a purpose so.
    """
    if word is None:
        return Purpose()
    if word not in PURPOSES:
        raise InvalidRequest(f"`{param}` {word[:80]!r} is unknown; it may be: {', '.join(PURPOSES)}", param=param)
    return PURPOSES[word]


class PurposeFields(RequestFields):
    """Fields of a request that choose the prompt in front of each text, under names that mean nothing else anywhere."""

    input_type: PurposeName | None = Field(
        None,
        description="What the texts are, for models that have a prompt for it: `query`, `document` (Voyage), "
        "`search_query`, `search_document`, `classification`, `clustering` (Cohere).",
    )
    task: PurposeName | None = Field(
        None, description="The same in Jina's words: `retrieval.query`, `retrieval.passage`, `text-matching`, …"
    )
    prompt_name: str | None = Field(None, description="One of the model's prompts by its name; goes before a purpose.")
    instruction: str | None = Field(
        None,
        description="Words to put in front of each text; go before a name. A chat model reads them as instruction.",
    )
    prefix: str | None = Field(None, description="The same (Open WebUI's prefix field).")

    def prompting(self) -> dict[str, Any]:
        """What an embed request says of it.

        Raises:
            InvalidRequest: A purpose is unknown, or two fields contradict each other.
        """
        said = {"input_type": self.input_type, "task": self.task}
        purpose = agreed({name: purpose_of(word, name) for name, word in said.items() if word is not None}) or Purpose()
        return {
            **purpose.fields(),
            "prompt_name": self.prompt_name,
            "prompt": agreed(self.words()),
        }

    def words(self) -> dict[str, str | None]:
        """The words to put in front of each text, by the fields that may have them."""
        return {"instruction": self.instruction, "prefix": self.prefix}


class PromptFields(PurposeFields):
    """The same with `prompt`, which in Ollama's words is the text itself."""

    prompt: str | None = Field(None, description="The same as `instruction`.")

    def words(self) -> dict[str, str | None]:
        """The words to put in front of each text, by the fields that may have them."""
        return {"prompt": self.prompt, **super().words()}

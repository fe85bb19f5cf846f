"""Embeddings in the words that OpenAI's, Jina's, Voyage's, vLLM's and Infinity's clients share: one body, a superset of all.

They agree on `input`, `model` and the shape of the answer and add options of their own, of which none means two things. So
one body serves them all, on the shared paths and under each one's prefix.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import wire
from api.dialect import EMBEDDINGS_PATHS, Answer, Context, Job, Route
from api.fields import Dimensions, Listed, OnlyTrue, RequestFields
from api.inputs import MixedInput, MixedInputs, TextsOrTokens, separated
from api.places import listed
from api.prompts import PromptFields
from api.synonyms import agreed
from api.truncation import TruncationFields
from api.vector_format import FormatName, VectorFormat, refuse_for_multivectors
from shared.errors import EmptyInput
from shared.jobs import EmbedRequest
from shared.queues import Operation
from shared.results import Kind, Precision


class VectorFields(RequestFields):
    """Fields of a request about the vectors themselves and how they are written down."""

    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="`base64`: little-endian bytes, what the OpenAI clients ask for by themselves."
    )
    dimensions: Dimensions | None = Field(
        None, description="Keep the first so many dimensions and normalise again; 0 means all."
    )
    embed_dtype: Literal["float32", "float16"] | None = Field(
        None, description="Number format of base64 (vLLM); numbers in JSON stay float32."
    )
    endianness: Literal["native", "little"] | None = Field(None, description="Of base64 (vLLM): always little-endian.")
    normalized: bool | None = Field(None, description="Scale vectors to unit length (default) or not (Jina).")
    normalize: bool | None = Field(None, description="The same.")
    use_activation: bool | None = Field(None, description="The same (vLLM).")
    mm_processor_kwargs: None = Field(None, description="Not served: a model's own image processor decides (vLLM).")

    def is_normalized(self) -> bool:
        """Whether vectors are scaled to unit length.

        Raises:
            InvalidRequest: Two fields contradict each other.
        """
        said = {"normalized": self.normalized, "normalize": self.normalize, "use_activation": self.use_activation}
        return agreed(said) is not False

    def dense_options(self) -> dict[str, Any]:
        """Those of its options that dense vectors have and a vector for each token has not; None where it says nothing."""
        said = {"normalized": self.normalized, "normalize": self.normalize, "use_activation": self.use_activation}
        return {
            "dimensions": self.dimensions or None,
            "embed_dtype": None if self.embed_dtype == "float32" else self.embed_dtype,
            **{name: False if wanted is False else None for name, wanted in said.items()},
        }

    def vector_format(self) -> VectorFormat:
        """How vectors are written down, as far as these fields say."""
        if self.encoding_format != "base64":
            return VectorFormat()
        return VectorFormat(Precision(self.embed_dtype or Precision.FLOAT32), as_base64=True)


class EmbeddingsBody(TruncationFields, PromptFields, VectorFields):
    """Request of `POST /v1/embeddings`. Unknown fields are ignored, null means absent."""

    input: TextsOrTokens | MixedInput | MixedInputs = Field(
        description="One text or a list of texts; for some models also images, or token ids."
    )
    model: str | None = Field(None, description="Name of the model; the default model when absent.")
    output_dimension: Dimensions | None = Field(None, description="`dimensions` (Voyage).")
    output_dtype: Literal["float", "float32", "float16", "int8", "uint8", "binary", "ubinary"] | None = Field(
        None,
        description="Number format of the vectors: `float16`; one byte a dimension; or one bit, eight to a byte, as int8 "
        "(`binary`) or uint8 (`ubinary`). In base64 these bytes, in JSON numbers.",
    )
    embedding_type: FormatName | Listed[FormatName] | None = Field(
        None,
        description="`output_dtype`, or `base64` (Jina). A list: each embedding is an object with one entry for each.",
    )
    late_chunking: bool | None = Field(
        None, description="Read the inputs as one document in order, so that each vector knows what surrounds its text."
    )
    return_multivector: bool | None = Field(
        None, description="A vector for each token (Jina): `embeddings`, a list of them, in the place of `embedding`."
    )
    modality: Literal["text", "image"] | None = Field(
        None, description="`image` (Infinity): every plain string is an image, a URL or base64."
    )
    add_special_tokens: OnlyTrue | None = Field(
        None, description="Always true: a model's vectors are those of its own special tokens (vLLM)."
    )
    user: str | None = Field(None, description="Ignored, as `priority`, `request_id` and `cache_salt` are.")

    def kind(self) -> Kind:
        """The kind of vectors that is asked for."""
        return Kind.MULTIVECTOR if self.return_multivector else Kind.DENSE

    def formats(self) -> dict[str, VectorFormat]:
        """The formats that are asked for by their names; one of an empty name where it is not a list of them.

        Raises:
            InvalidRequest: Two fields contradict each other.
        """
        if isinstance(self.embedding_type, list):
            agreed(
                {
                    "embedding_type": self.embedding_type,
                    "output_dtype": self.output_dtype,
                    "embed_dtype": self.embed_dtype,
                }
            )
            # OpenAI's client asks for base64 by itself: with names there, they decide.
            return {name: VectorFormat.named(name) for name in self.embedding_type} or {"": VectorFormat()}
        as_base64 = "base64" in (self.encoding_format, self.embedding_type)
        named = {
            "output_dtype": self.output_dtype,
            "embedding_type": None if self.embedding_type == "base64" else self.embedding_type,
            "embed_dtype": self.embed_dtype if as_base64 else None,
        }
        precision = agreed({field: VectorFormat.named(name).precision for field, name in named.items() if name})
        return {"": VectorFormat(precision or Precision.FLOAT32, as_base64)}


class Embedding(BaseModel):
    """One vector, or with `return_multivector` one for each token."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str | dict[str, list[float] | str] | None = None
    embeddings: list[list[float]] | None = None


class EmbeddingsResponse(BaseModel):
    """Response of `POST /v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    #: OpenAI answers with neither; vLLM and Infinity do, and Mistral's client needs them.
    id: str
    created: int
    model: str
    usage: wire.Usage


def own_route(
    summary: str, example: Mapping[str, Any], *, paths: Sequence[str] = EMBEDDINGS_PATHS, key: str = ""
) -> Route:
    """The route under a provider's own prefix, where no other dialect can be meant."""
    return Route(
        paths=paths,
        operation=Operation.EMBED,
        body=EmbeddingsBody,
        response=EmbeddingsResponse,
        summary=summary,
        example=example,
        parse=parse,
        render=render,
        key=key,
        prefix_only=True,
    )


def parse(body: EmbeddingsBody, context: Context) -> Job:
    """The job of a body.

    Raises:
        EmptyInput: An input is empty.
        InvalidRequest: Options contradict each other, or do not go together.
        TokenInputUnsupported: The inputs are token ids.
    """
    texts, images, token_ids = _given(body, context)
    dimensions = agreed({"dimensions": body.dimensions, "output_dimension": body.output_dimension})
    if body.return_multivector:
        refuse_for_multivectors(
            **body.dense_options(),
            output_dimension=body.output_dimension or None,
            output_dtype=_unless_float(body.output_dtype),
            embedding_type=_unless_float(body.embedding_type),
            encoding_format=_unless_float(body.encoding_format),
        )
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=texts,
        normalize=body.is_normalized(),
        # 0 is how Infinity's clients say "all".
        dimensions=dimensions or None,
        kinds=[body.kind()],
        precisions=list(dict.fromkeys(form.precision for form in body.formats().values())),
        late_chunking=bool(body.late_chunking),
        token_ids=token_ids,
        **body.prompting(),
        **body.cutting(),
    )
    is_list = isinstance(body.input, list) and not (body.input and isinstance(body.input[0], int))
    place = listed("input", body.input if is_list else None)
    return Job(model=body.model, requests=[request], place=place, images=images)


def render(body: EmbeddingsBody, answer: Answer) -> Any:
    """Vectors in input order; the model is echoed as it was asked for."""
    key = "embeddings" if body.return_multivector else "embedding"
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, key: row} for index, row in enumerate(_rows(body, answer))],
        **wire.envelope("embd", "list", body.model or answer.model, answer.tokens),
    }


def _rows(body: EmbeddingsBody, answer: Answer) -> Sequence[Any]:
    """What each input became."""
    formats = body.formats()
    if body.return_multivector:
        return VectorFormat().token_rows(answer.output)
    if "" in formats:
        return formats[""].rows(answer.output)
    named = [form.rows(answer.output) for form in formats.values()]
    return [dict(zip(formats, row, strict=True)) for row in zip(*named, strict=True)]


def _given(body: EmbeddingsBody, context: Context) -> tuple[list[str], list[str | None] | None, list[list[int]] | None]:
    """The inputs: texts, with images in the places of some; or token ids of the model's own, in the places of all.

    Raises:
        EmptyInput: One is empty.
        ModelNotFound, Forbidden, WrongTask: They are ids, and there is no model to say what they are.
        UnsupportedByModel: There is no such token id.
        TokenInputUnsupported: They are ids, and the model does not say that it takes them.
    """
    token_ids = _token_ids(body)
    if token_ids is None:
        texts, images = separated(_inputs(body))
        wire.refuse_empty(texts, "input", images)
        return texts, images, None
    model = context.catalog.resolve(body.model, Operation.EMBED, [body.kind()])
    token_input, cl100k = context.catalog.token_input(model), context.catalog.cl100k
    if token_input == "reject":  # noqa: S105
        # Another vocabulary's ids give plausible vectors of other words: the worst way to fail.
        raise wire.token_ids_refused("input")
    if (empty := next((index for index, ids in enumerate(token_ids) if not ids), None)) is not None:
        raise EmptyInput(f"`input[{empty}]` has no token ids", param="input")
    if cl100k is not None and token_input == "cl100k":  # noqa: S105
        return cl100k.texts(token_ids, "input"), None, None
    return [""] * len(token_ids), None, token_ids


def _token_ids(body: EmbeddingsBody) -> list[list[int]] | None:
    """The inputs where they are token ids; None where they are something else."""
    given = body.input
    if not isinstance(given, list) or not given or not isinstance(given[0], (int, list)):
        return None
    return [given] if isinstance(given[0], int) else given


def _inputs(body: EmbeddingsBody) -> Sequence[str | MixedInput]:
    given = [body.input] if isinstance(body.input, (str, MixedInput)) else body.input
    inputs = [entry for entry in given if isinstance(entry, (str, MixedInput))]
    if len(inputs) != len(given):  # token ids among texts
        raise wire.token_ids_refused("input")
    if body.modality == "image":
        return [MixedInput(image=entry) if isinstance(entry, str) else entry for entry in inputs]
    return inputs


def _unless_float(name: Any) -> Any:
    return None if name in (None, "float", "float32") else name

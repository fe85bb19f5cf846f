"""TEI's requests and answers: for its own routes, and for the dialects that carry them in a form of their own.

Hugging Face's clients send the same bodies to `/`, and Vertex puts them into an envelope.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api import scores, wire
from api.dialect import Answer, Context, Job
from api.fields import Documented, Integer, Listed, RequestFields, Several, SomeDimensions, Text, Texts, TokenIds
from api.places import listed, ranked
from api.synonyms import agreed
from shared import arrays
from shared.errors import (
    BatchTooLarge,
    EmptyInput,
    InferenceFailed,
    InputTooLong,
    InvalidJson,
    InvalidRequest,
    MillraceError,
    ModelNotFound,
    OutOfMemory,
    TokenInputUnsupported,
    UnsupportedByModel,
    WrongTask,
)
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, RerankRequest, TokenizeRequest
from shared.queues import Operation
from shared.results import Kind, Output, Precision

#: One text, or a pair, of which one may be empty.
SingleOrPair = Annotated[Listed[str], Field(min_length=1, max_length=2), Documented(contains={"minLength": 1})]


#: Longest text of which the tokens are told, in characters.
_MOST_TOKENIZED = 1 << 17
#: Most characters of all texts of a request: each token is a line of the answer, and some are one character.
_MOST_TOKENIZED_TOGETHER = 1 << 20


class TruncationBody(RequestFields):
    """What TEI's requests say about over-long texts. Null means absent everywhere."""

    truncate: bool | None = Field(None, description="Cut over-long texts (default) or refuse them.")
    truncation_direction: Literal["Left", "left", "Right", "right"] | None = Field(
        None, description="The side at which they are cut: right (default) or left."
    )

    def cutting(self) -> dict[str, Any]:
        """What a request of the queue says of it."""
        return {
            "truncate": self.truncate is not False,
            "truncation_side": (self.truncation_direction or "right").lower(),
        }


class PromptBody(RequestFields):
    """What TEI's requests say about prompts."""

    prompt_name: str | None = Field(None, description="One of the model's prompts, put in front of each text.")


#: One text, or a list of them; in the place of a text there may be the ids of its tokens. A list of ids alone is one text's.
TextsOrIds = Text | Texts | TokenIds | Several[Text | TokenIds]

_TEXTS_OR_IDS = "One text or a list of texts. A model that is configured so also takes token ids of its own."


class EmbedBody(TruncationBody, PromptBody):
    """Request of `POST /embed`."""

    inputs: TextsOrIds = Field(description=_TEXTS_OR_IDS)
    normalize: bool | None = Field(True, description="Scale vectors to unit length.")
    dimensions: SomeDimensions | None = Field(None, description="Keep the first so many dimensions, then normalise.")
    output_dtype: Precision | None = Field(
        None, strict=False, description="Number format of the vectors, `float32` when absent; TEI has no such field."
    )
    model: str | None = Field(None, description="Name of the model; the default model when absent.")


class EmbedKindBody(TruncationBody, PromptBody):
    """Request of `POST /embed_sparse` and `POST /embed_all`."""

    inputs: TextsOrIds = Field(description=_TEXTS_OR_IDS)
    input_type: Literal["query", "document"] | None = Field(
        None,
        description="What the texts are, for models that treat queries in a way of their own; TEI has no such field.",
    )
    model: str | None = Field(None, description="Name of the model; the first that makes such vectors when absent.")


class SimilarityInputs(RequestFields):
    """A text, and those to compare it with."""

    source_sentence: Text = Field(description="The text that the others are compared with.")
    sentences: Texts = Field(description="The others.")


class SimilarityParameters(TruncationBody, PromptBody):
    """Options of `POST /similarity`."""


class SimilarityBody(RequestFields):
    """Request of `POST /similarity`."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = Field(None, description="How to embed them.")
    model: str | None = Field(None, description="Name of the model; the default model when absent.")


class TextItem(RequestFields):
    """A text as an object, as LiteLLM sends it."""

    text: str = Field(description="The text.")


class RerankBody(TruncationBody):
    """Request of `POST /rerank` in TEI's words."""

    query: Text = Field(description="What the texts are scored against.")
    texts: Several[str | TextItem] = Field(description="Texts to score; LiteLLM's objects with a `text` are taken too.")
    raw_scores: bool | None = Field(False, description="Scores as the model gives them instead of 0 to 1.")
    return_text: bool | None = Field(False, description="Repeat each text in its result.")
    top_n: Integer | None = Field(None, description="Return only the best so many; TEI itself has no such field.")
    instruction: str | None = Field(None, description="The task in words, for models whose template takes it.")
    model: str | None = Field(None, description="Name of the model; the default reranker when absent.")

    def plain_texts(self) -> list[str]:
        """The texts without their objects."""
        return [entry if isinstance(entry, str) else entry.text for entry in self.texts]


class PredictBody(TruncationBody):
    """Request of `POST /predict`."""

    inputs: Text | SingleOrPair | Annotated[Listed[SingleOrPair], Field(min_length=1)] = Field(
        description='One text, a pair (`["a", "b"]`, which is not a batch), or a batch: a list of `["a"]` and `["a", "b"]`.'
    )
    raw_scores: bool | None = Field(False, description="Logits instead of probabilities.")
    model: str | None = Field(None, description="Name of the model; the first classifier when absent.")

    def entries(self) -> list[list[str]]:
        """The batch, also where it is a single text or pair."""
        if isinstance(self.inputs, str):
            return [[self.inputs]]
        return [self.inputs] if self.is_single() else list(self.inputs)  # type: ignore[list-item, arg-type]

    def is_single(self) -> bool:
        """Whether the answer is one list of labels instead of one for each entry."""
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], str)


class MainOptions(TruncationBody, PromptBody):
    """Options of a request that does not say what to do with its inputs."""

    normalize: bool | None = Field(None, description="Scale vectors to unit length (default) or not.")
    dimensions: SomeDimensions | None = Field(None, description="Keep the first so many dimensions, then normalise.")
    raw_scores: bool | None = Field(None, description="Logits instead of probabilities.")


class MainBody(MainOptions):
    """A request that does not say what to do with its inputs: whatever the model is made for."""

    inputs: TextsOrIds | Several[SingleOrPair] = Field(
        description="Texts, as `/embed`, `/embed_sparse` or `/predict` takes them, whichever the model does."
    )
    parameters: MainOptions | None = Field(None, description="The same options, as Hugging Face's clients send them.")
    model: str | None = Field(None, description="Name of the model; the first that does more than rerank when absent.")

    def flat(self) -> dict[str, Any]:
        """The same request without `parameters`.

        Raises:
            ContradictoryFields: An option is given twice, and not alike.
        """
        inner = self.parameters or MainOptions()
        options = {
            name: agreed({name: getattr(self, name), f"parameters.{name}": getattr(inner, name)})
            for name in MainOptions.model_fields
        }
        return {"inputs": self.inputs, "model": self.model, **options}


class TokenizeBody(PromptBody):
    """Request of `POST /tokenize`."""

    inputs: str | Several[str] = Field(description="One text or a list of texts.")
    add_special_tokens: bool | None = Field(True, description="With the tokens that the model wants around each text.")
    model: str | None = Field(None, description="Name of the model; the first when absent.")


class DecodeBody(RequestFields):
    """Request of `POST /decode`."""

    ids: TokenIds | Several[TokenIds] = Field(description="Ids of one text, or a list of them for each text.")
    skip_special_tokens: bool | None = Field(True, description="Leave special tokens out.")
    model: str | None = Field(None, description="Name of the model whose ids they are; the first when absent.")


class SparseValue(BaseModel):
    """One entry of a sparse vector."""

    index: int = Field(description="Id of the token.")
    value: float


class Label(BaseModel):
    """One label with its score."""

    score: float
    label: str


class Rank(BaseModel):
    """One scored text."""

    index: int
    score: float
    text: str | None = None


class SimpleToken(BaseModel):
    """One token of a text."""

    id: int = Field(description="Its id, which is the same wherever it stands.")
    text: str = Field(description="The part of the text that it is; of a special token its name.")
    special: bool = Field(description="Whether the model wants it there and the text does not have it.")
    start: int | None = Field(description="Where it begins in the prompt and text, in bytes; null for special tokens.")
    stop: int | None = Field(description="Where it ends.")


@dataclass(frozen=True, slots=True)
class Task:
    """One of TEI's tasks: a body, and what becomes of it."""

    body: type[BaseModel]
    response: Any
    parse: Callable[[Any, Context], Job]
    render: Callable[[Any, Answer], Any]


def _list(inputs: str | list[str]) -> list[str]:
    return [inputs] if isinstance(inputs, str) else inputs


def _given(body: EmbedBody | EmbedKindBody, kind: Kind, context: Context) -> dict[str, Any]:
    """What an embed request says of the inputs.

    Raises:
        EmptyInput: There is no text, or an empty one.
        TokenInputUnsupported: There are token ids, and the model does not say that it takes them.
        ModelNotFound, Forbidden, WrongTask: There are token ids, and no model to say what they are.
    """
    is_one = isinstance(body.inputs, str) or isinstance(next(iter(body.inputs), None), int)
    entries: list[Any] = [body.inputs] if is_one else list(body.inputs)
    wire.refuse_empty(entries, "inputs")
    texts = [entry if isinstance(entry, str) else "" for entry in entries]
    if all(texts):
        return {"texts": texts}
    model = context.catalog.resolve(body.model, Operation.EMBED, [kind])
    # What speaks TEI has TEI's tokenizer: also where OpenAI's clients send ids of another, these are the model's own.
    if context.catalog.token_input(model) == "reject":
        raise wire.token_ids_refused("inputs")
    return {"texts": texts, "token_ids": [None if isinstance(entry, str) else entry for entry in entries]}


def parse_embed(body: EmbedBody, context: Context) -> Job:
    """Dense vectors.

    Raises:
        EmptyInput: There is no text, or an empty one.
        TokenInputUnsupported: There are token ids, and the model does not say that it takes them.
    """
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        normalize=body.normalize is not False,
        dimensions=body.dimensions,
        prompt_name=body.prompt_name,
        precisions=[body.output_dtype or Precision.FLOAT32],
        **_given(body, Kind.DENSE, context),
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("inputs", body.inputs))


def render_embed(body: EmbedBody, answer: Answer) -> Any:
    """A list of vectors, also for a single text."""
    return arrays.dense_rows(answer.output, body.output_dtype or Precision.FLOAT32)


def parse_kind(kind: Kind, body: EmbedKindBody, context: Context) -> Job:
    """Vectors of another kind.

    Raises:
        EmptyInput: There is no text, or an empty one.
        TokenInputUnsupported: There are token ids, and the model does not say that it takes them.
    """
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        kinds=[kind],
        input_type=body.input_type,
        prompt_name=body.prompt_name,
        **_given(body, kind, context),
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("inputs", body.inputs))


def render_sparse(_: EmbedKindBody, answer: Answer) -> Any:
    """The entries of each sparse vector, by ascending index."""
    return _sparse_vectors(answer.output)


def render_tokens(_: EmbedKindBody, answer: Answer) -> Any:
    """A list of vectors for each text."""
    return arrays.token_rows(answer.output)


def parse_similarity(body: SimilarityBody, context: Context) -> Job:
    """Vectors of the source and of the sentences.

    Raises:
        EmptyInput: One of them is empty, or there are no sentences.
    """
    wire.refuse_empty([body.inputs.source_sentence], "inputs.source_sentence")
    wire.refuse_empty(body.inputs.sentences, "inputs.sentences")
    parameters = body.parameters or SimilarityParameters()
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=[body.inputs.source_sentence, *body.inputs.sentences],
        prompt_name=parameters.prompt_name,
        **parameters.cutting(),
    )
    return Job(model=body.model, requests=[request], place=_similarity_place)


def _similarity_place(_: int, index: int) -> str:
    return f"inputs.sentences[{index - 1}]" if index else "inputs.source_sentence"


def render_similarity(_: SimilarityBody, answer: Answer) -> Any:
    """Cosines of the source's vector with each sentence's: they have unit length."""
    vectors = arrays.rows(answer.output)
    return vectors[1:] @ vectors[0]


def parse_rerank(body: RerankBody, context: Context) -> Job:
    """Scores of texts against a query.

    Raises:
        EmptyInput: The query is empty, or there are no texts.
    """
    wire.refuse_empty([body.query], "query")
    wire.refuse_none(body.plain_texts(), "texts")
    request = RerankRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        query=body.query,
        documents=body.plain_texts(),
        raw_scores=bool(body.raw_scores),
        instruction=body.instruction,
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=ranked("texts"))


def render_ranks(body: RerankBody, answer: Answer) -> Any:
    """Best first, and no key beside TEI's: Elasticsearch throws on any other."""
    texts = body.plain_texts()
    ranks: list[dict[str, Any]] = []
    for index, score in scores.ranked(answer.output, body.top_n):
        rank: dict[str, Any] = {"index": index, "score": score}
        if body.return_text:
            rank["text"] = texts[index]
        ranks.append(rank)
    return ranks


def parse_predict(body: PredictBody, context: Context) -> Job:
    """Scores of a classifier's labels.

    Raises:
        EmptyInput: A text is empty, or both of a pair.
    """
    entries = body.entries()
    wire.refuse_empty(["".join(entry) for entry in entries], "inputs")
    request = ClassifyRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=[entry[0] for entry in entries],
        seconds=[entry[1] if len(entry) > 1 else None for entry in entries],
        raw_scores=bool(body.raw_scores),
        **body.cutting(),
    )
    place = listed("inputs", None if body.is_single() else entries)
    return Job(model=body.model, requests=[request], place=place)


def render_labels(body: PredictBody | MainBody, answer: Answer) -> Any:
    """Labels best first, for each entry."""
    entries = wire.labels(answer.output)
    return entries if isinstance(body.inputs, list) and isinstance(body.inputs[0], list) else entries[0]


def parse_main(body: MainBody, context: Context) -> Job:
    """What the model is made for; while no worker has run it, embedding.

    Raises:
        UnsupportedByModel: That takes other inputs.
        WrongTask: The model only reranks, which takes other fields.
        ContradictoryFields: An option is given twice, and not alike.
    """
    given = body.flat()
    card = context.catalog.main(body.model)
    if card is not None and card.model_type == "reranker":
        raise WrongTask(f"model {card.name} reranks: send `query` and `texts`", param="inputs")
    try:
        if card is not None and card.model_type == "classifier":
            return parse_predict(wire.validated(PredictBody, given), context)
        if card is not None and card.kinds and Kind.DENSE not in card.kinds:
            return parse_kind(card.kinds[0], wire.validated(EmbedKindBody, given), context)
        return parse_embed(wire.validated(EmbedBody, given), context)
    except (EmptyInput, TokenInputUnsupported, WrongTask):
        raise
    except InvalidRequest as err:
        # Another task's model would take it.
        raise UnsupportedByModel(err.message, param=err.param) from err


def render_main(body: MainBody, answer: Answer) -> Any:
    """As the task's own route answers."""
    output = answer.output
    if output.labels:
        return render_labels(body, answer)
    if output.sparse is not None:
        return _sparse_vectors(output)
    return arrays.rows(output) if output.multivector is None else arrays.token_rows(output)


def parse_tokenize(body: TokenizeBody, context: Context) -> Job:
    """Tokens of texts, which may be empty.

    Raises:
        EmptyInput: There are no texts.
        InputTooLong: One is longer than a book's chapter: its tokens would be an answer of many megabytes.
        BatchTooLarge: All of them together are.
    """
    wire.refuse_none(_list(body.inputs), "inputs")
    for index, text in enumerate(_list(body.inputs)):
        if len(text) > _MOST_TOKENIZED:
            where = f"`inputs[{index}]` has {len(text)} characters"
            raise InputTooLong(
                f"{where}; at most {_MOST_TOKENIZED} are tokenised in one text: send parts", param="inputs"
            )
    characters = sum(map(len, _list(body.inputs)))
    if characters > _MOST_TOKENIZED_TOGETHER:
        raise BatchTooLarge(
            f"`inputs` has {characters} characters; at most {_MOST_TOKENIZED_TOGETHER} are tokenised at a time",
            param="inputs",
        )
    request = TokenizeRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=_list(body.inputs),
        add_special_tokens=body.add_special_tokens is not False,
        prompt_name=body.prompt_name,
    )
    return Job(model=body.model, requests=[request], place=listed("inputs", body.inputs))


def render_token_lists(_: TokenizeBody, answer: Answer) -> Any:
    """The tokens of each text."""
    return [
        [
            {"id": token.id, "text": token.text, "special": token.special, "start": token.start, "stop": token.stop}
            for token in tokens
        ]
        for tokens in answer.output.token_lists
    ]


def parse_decode(body: DecodeBody, context: Context) -> Job:
    """Texts of ids.

    Raises:
        EmptyInput: There are no ids, or none for one of the texts.
    """
    ids: Sequence[Any] = body.ids if body.ids and isinstance(body.ids[0], list) else [body.ids]
    if not all(ids):
        raise EmptyInput("`ids` cannot be empty", param="ids")
    request = DecodeRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        ids=ids,
        skip_special_tokens=body.skip_special_tokens is not False,
    )
    return Job(model=body.model, requests=[request], place=listed("ids"))


def render_texts(_: DecodeBody, answer: Answer) -> Any:
    """One text for each list of ids."""
    return answer.output.texts


SIMILARITY = Task(SimilarityBody, list[float], parse_similarity, render_similarity)
RERANK = Task(RerankBody, list[Rank], parse_rerank, render_ranks)
MAIN = Task(
    MainBody, list[list[float]] | list[list[SparseValue]] | list[Label] | list[list[Label]], parse_main, render_main
)


def is_similarity(data: Mapping[str, Any]) -> bool:
    """Whether a body with `inputs` asks for similarities."""
    return isinstance(data["inputs"], dict)


def task_of(data: Mapping[str, Any]) -> Task:
    """What a body asks for that came without a route of its own."""
    if data.get("texts") is not None:
        return RERANK
    return SIMILARITY if data.get("inputs") is not None and is_similarity(data) else MAIN


#: Statuses that TEI gives errors, where they are not the error's own; the first class that fits counts.
_STATUSES: tuple[tuple[type[MillraceError], int], ...] = (
    (EmptyInput, 400),
    (InvalidJson, 400),
    (ModelNotFound, 404),
    (OutOfMemory, 413),
    (BatchTooLarge, 422),
    (WrongTask, 424),
    (InferenceFailed, 424),
)


def render_error(error: MillraceError) -> tuple[int, dict[str, Any]]:
    """TEI's flat error object with its capitalised `error_type`, and its status: 422 for whatever is not valid."""
    own = 422 if error.status == 400 else error.status
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), own)
    return status, wire.flat_error(error)


def _sparse_vectors(output: Output) -> list[list[dict[str, Any]]]:
    return [
        [{"index": int(index), "value": value} for index, value in zip(indices, values[:, 0], strict=True)]
        for indices, values in arrays.sparse_rows(output)
    ]

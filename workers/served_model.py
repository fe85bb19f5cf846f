"""A model as the worker sees it: its card, its tokenizer, its lanes, and what may be asked of it."""

from collections.abc import Sequence

from shared.errors import ContradictoryFields, InputTooLong, InvalidRequest, UnsupportedByModel, WrongTask
from shared.jobs import (
    DecodeRequest,
    EmbedRequest,
    InferenceRequest,
    Request,
    RerankRequest,
    TokenizeRequest,
    TokenizerRequest,
    operation_of,
)
from shared.model_card import ModelCard
from shared.places import QUERY, called
from shared.queues import Lane, Operation
from shared.results import Kind, Output, Precision, Truncation
from workers.batching import Lanes
from workers.engine_protocol import EngineModel
from workers.reader import Reader
from workers.tokenization import ModelTokenizer, Tokens
from workers.work import Item, RequestWork

#: Weight of the newest batch in the running estimate of the engine's speed.
_SPEED_WEIGHT = 0.2
#: The budget after a batch that did not fit into memory, as a share of that batch; its least value, in tokens.
_AFTER_FAILURE = 0.8
_LEAST_BATCH_TOKENS = 256
#: So many batches that fitted make the budget grow by this factor.
_CLEAN_BATCHES = 100
_GROWTH = 1.05
#: Batches below this many tokens say little about speed.
_SPEED_MIN_TOKENS = 256
#: While nobody searches, a bulk batch may take this many times as long: fewer, larger batches are up to a tenth faster, and
#: who comes then waits for what is left of one of them, once.
_QUIET_FACTOR = 2.0


class ServedModel:
    """A model of the engine, with its tokenizer and its lanes."""

    def __init__(
        self, index: int, model: EngineModel, *, bulk_batch_s: float, aging_s: float, parallel: int = 1
    ) -> None:
        """Describe a model.

        Args:
            index: Its number in the engine process.
            model: What the engine says of it.
            bulk_batch_s: Longest that a batch which bulk work fills may take.
            aging_s: Bulk work that waited longer has a guaranteed share.
            parallel: How many batches share the device's speed.
        """
        self.index = index
        # What the tokenizer does alone, it does for every model.
        operations = [*model.card.operations, Operation.TOKENIZE, Operation.DECODE]
        self.card = model.card.model_copy(update={"operations": operations})
        form = model.input_format
        self._reader = Reader(form)
        self.tokenizer = self._reader.tokenizer
        self.cost = self._reader.cost
        self.int8_ranges = model.int8_ranges
        #: The first token id without an embedding, where the tokenizer knows such.
        known = form.embeddings
        self._first_unknown = known if known is not None and self.tokenizer.vocabulary_size > known else None
        #: Whether an input can be an image with a text beside it.
        self._reads_both = bool(form.chat)
        self._bulk_batch_s = bulk_batch_s / parallel
        self._parallel = parallel
        self._clean_batches = 0
        self.tokens_per_s = model.card.tokens_per_s
        self.lanes: Lanes[Item] = Lanes(
            max_batch_tokens=model.card.max_batch_tokens, bulk_batch_tokens=1, aging_s=aging_s
        )
        self._size_bulk_batches()

    def read_images(self, work: RequestWork) -> None:
        """Make pixels of a request's images, which takes milliseconds each; what cannot be read becomes its error."""
        request, reader = work.request, self._reader.images
        if not isinstance(request, EmbedRequest) or request.images is None or reader is None:
            return  # no images, or a model without eyes, which `sequences_of` says
        for index, image in enumerate(request.images):
            try:
                work.pixels.append(None if image is None else reader.read(image))
            except InvalidRequest as err:
                work.error = type(err)(f"{called(index)}: {err.message}", index=index)
                return

    def sequences_of(self, work: RequestWork) -> list[Tokens]:
        """Check and tokenise a request; notes in `work` which inputs had to be cut.

        A request for the tokenizer alone has no sequences: its answer is in `work` then.

        Raises:
            MillraceError: The model cannot do this, or not with these inputs.
        """
        request, card = work.request, self.card
        if (operation := operation_of(request)) not in card.operations:
            does = ", ".join(card.operations)
            raise WrongTask(f"model {card.name} does not {operation}; it does: {does}", param="model")
        if isinstance(request, EmbedRequest):
            self._check_embed(request)
        try:
            if isinstance(request, TokenizeRequest | DecodeRequest):
                work.output = self._tokenizer_output(request)
                return []
            if request.truncation_side == "left" and not self.tokenizer.cuts_left:
                raise UnsupportedByModel(
                    f"`truncation_side`: model {card.name} cuts texts at their right only, as what it puts around them "
                    "would be cut at the left",
                    param="truncation_side",
                )
            tokenizer = self._tokenizer_for(request)
            tokens = tokenizer.encode_request(request, work.pixels)
        except KeyError as err:
            has = ", ".join(card.prompts) or "none"
            raise UnsupportedByModel(
                f"`prompt_name`: model {card.name} has no prompt {str(err.args[0])[:80]!r}; it has: {has}",
                param="prompt_name",
            ) from err
        except ValueError as err:
            raise InputTooLong(
                f"{called(QUERY)} alone fills the {tokenizer.max_tokens} tokens that are read of it and a document",
                index=QUERY,
            ) from err
        first = first_place(request, len(tokens))
        if self._first_unknown is not None:
            for index, entry in enumerate(tokens):
                if max(entry.ids, default=0) >= self._first_unknown:
                    raise UnsupportedByModel(
                        f"{called(first + index)} has a token that {card.name} has no embedding for: its folder's "
                        "tokenizer knows more tokens than its weights",
                        index=first + index,
                    )
        chunks = tokens[0].chunks if isinstance(request, EmbedRequest) and request.late_chunking else None
        sizes = chunks or [entry.pixels is not None or len(entry.ids) > entry.skip for entry in tokens]
        if chunks is not None and tokens[0].full_length > len(tokens[0].ids):
            raise InputTooLong(
                "`late_chunking` reads all inputs as one document, and this one is longer than the "
                f"{tokenizer.max_tokens} tokens that are read of it; send fewer inputs at a time",
                param="late_chunking",
            )
        if (empty := next((index for index, size in enumerate(sizes) if not size), None)) is not None:
            # Packed, the last token of nothing would be that of somebody else's text.
            raise UnsupportedByModel(
                f"{called(first + empty)} has no tokens; {card.name} makes nothing of it", index=first + empty
            )
        work.truncations = self._truncations(request, tokens, tokenizer.max_tokens)
        return tokens

    def _tokenizer_output(self, request: TokenizerRequest) -> Output:
        if isinstance(request, DecodeRequest):
            texts = tuple(self.tokenizer.decode(request))
            return Output(shape=(request.items, 0), data=b"", tokens=sum(map(len, request.ids)), texts=texts)
        lists = tuple(self.tokenizer.tokenize(request))
        return Output(shape=(request.items, 0), data=b"", tokens=sum(map(len, lists)), token_lists=lists)

    def observe_speed(self, tokens: int, seconds: float) -> None:
        """Learn from batches that ran at the same time how fast the device is, and how large a bulk batch may be."""
        if tokens >= _SPEED_MIN_TOKENS and seconds > 0:
            self.tokens_per_s += _SPEED_WEIGHT * (tokens / seconds - self.tokens_per_s)
            self._size_bulk_batches()

    def ran_out_of_memory(self, tokens: int) -> None:
        """Make smaller batches than the one of `tokens` that did not fit."""
        budget = max(_LEAST_BATCH_TOKENS, int(_AFTER_FAILURE * tokens))
        self.lanes.max_batch_tokens = min(self.lanes.max_batch_tokens, budget)
        self._clean_batches = 0
        self._size_bulk_batches()

    def ran_clean(self) -> None:
        """Grow the batches again after many that fitted, up to the configured budget."""
        if self.lanes.max_batch_tokens >= self.card.max_batch_tokens:
            return
        self._clean_batches += 1
        if self._clean_batches >= _CLEAN_BATCHES:
            self._clean_batches = 0
            grown = int(self.lanes.max_batch_tokens * _GROWTH) + 1
            self.lanes.max_batch_tokens = min(grown, self.card.max_batch_tokens)
            self._size_bulk_batches()

    def card_now(self) -> ModelCard:
        """Its card with what has been learned since it was loaded."""
        learned = {"tokens_per_s": round(self.tokens_per_s, 1), "max_batch_tokens": self.lanes.max_batch_tokens}
        return self.card.model_copy(update=learned)

    def held_limit(self, lane: Lane) -> int:
        """Tokens that a lane may hold before it is closed.

        What runs and as much that waits; of interactive work a batch
        more, so that a gateway with its four tasks in flight never closes it.
        """
        if lane is Lane.INTERACTIVE:
            return (2 * self._parallel + 1) * self.card.max_batch_tokens
        return 2 * self._parallel * self.lanes.quiet_bulk_tokens

    def _check_embed(self, request: EmbedRequest) -> None:
        card = self.card
        if missing := [kind for kind in request.kinds if kind not in card.kinds]:
            makes = ", ".join(card.kinds)
            raise WrongTask(f"model {card.name} makes no {missing[0]} vectors; it makes: {makes}", param="model")
        if request.dimensions is not None and card.dimensions is None:
            raise UnsupportedByModel(
                f"`dimensions`: vectors of model {card.name} have no dimensions to keep some of", param="dimensions"
            )
        if request.dimensions is not None and not 0 < request.dimensions <= (most := card.dimensions or 0):
            raise UnsupportedByModel(
                f"`dimensions`: {request.dimensions} is not between 1 and {most}, what model {card.name} has",
                param="dimensions",
            )
        if request.images is not None and "image" not in card.modalities:
            raise WrongTask(f"model {card.name} takes no images", param="model")
        pairs = zip(request.texts, request.images or (), strict=False)
        both = next((index for index, (text, image) in enumerate(pairs) if text and image is not None), None)
        if both is not None and not self._reads_both:
            raise WrongTask(
                f"{called(both)} has a text and an image, and model {card.name} takes one of them", index=both
            )
        if request.late_chunking and request.images is not None:
            raise ContradictoryFields("`late_chunking` takes texts only, which are one document", param="late_chunking")
        if request.token_ids is not None and (request.late_chunking or request.images is not None):
            raise ContradictoryFields(
                "token ids in the place of texts go neither with `late_chunking` nor with images", param="late_chunking"
            )
        if request.late_chunking and (not card.late_chunking or request.kinds != [Kind.DENSE]):
            raise WrongTask(
                f"model {card.name} does no late chunking: that takes the mean of token states", param="model"
            )
        if {Precision.INT8, Precision.UINT8} & set(request.precisions):
            self._check_int8(request)

    def _check_int8(self, request: EmbedRequest) -> None:
        if self.int8_ranges is None:
            if not request.normalize:
                raise UnsupportedByModel(
                    f"`normalize` cannot be false: model {self.card.name} has no `int8_ranges` and so quantises vectors of "
                    "unit length only",
                    param="normalize",
                )
        elif request.dimensions not in (None, self.int8_ranges.shape[1]):
            raise UnsupportedByModel(
                f"`dimensions`: the `int8_ranges` of model {self.card.name} are for {self.int8_ranges.shape[1]} dimensions, "
                f"not for {request.dimensions}",
                param="dimensions",
            )

    def _tokenizer_for(self, request: InferenceRequest) -> ModelTokenizer:
        """The tokenizer, which cuts at the length that a request names, if it does.

        Raises:
            UnsupportedByModel: That leaves no room for a text.
        """
        if request.max_tokens is None:
            return self.tokenizer
        special = self.tokenizer.special_tokens(pair=not isinstance(request, EmbedRequest))
        if request.max_tokens <= special:
            raise UnsupportedByModel(
                f"`max_tokens`: nothing can be cut to {request.max_tokens} tokens, as model {self.card.name} puts {special} "
                "around each input",
                param="max_tokens",
            )
        return self.tokenizer.limited(request.max_tokens)

    def _truncations(self, request: InferenceRequest, tokens: Sequence[Tokens], most: int) -> list[Truncation]:
        cut = [
            Truncation(index, entry.full_length, len(entry.ids))
            for index, entry in enumerate(tokens, first_place(request, len(tokens)))
            if entry.full_length > len(entry.ids)
        ]
        if cut and not request.truncate:
            index, found = cut[0].index, max(cut[0].original_tokens, most + 1)
            taken = f"{self.card.name} takes {most}" if most == self.card.max_tokens else f"{most} are asked for"
            raise InputTooLong(
                f"{called(index)} has {found} tokens and {taken}; shorten it or allow truncation",
                index=index,
            )
        return cut

    def _size_bulk_batches(self) -> None:
        """Follow the speed and the budget."""
        self.lanes.bulk_batch_tokens = self._tokens_in(self._bulk_batch_s)
        self.lanes.quiet_bulk_tokens = self._tokens_in(_QUIET_FACTOR * self._bulk_batch_s)

    def _tokens_in(self, seconds: float) -> int:
        return max(1, min(self.lanes.max_batch_tokens, int(self.tokens_per_s * seconds)))


def first_place(request: Request, sequences: int) -> int:
    """The place of a request's first sequence: where query and documents are sequences of their own, it is the query's."""
    return QUERY if isinstance(request, RerankRequest) and sequences > request.items else 0

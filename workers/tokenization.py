"""Texts to token ids, in Rust and outside the GIL, exactly as the reference implementation configures it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, chain

from tokenizers import Encoding, Tokenizer

from shared.errors import InputTooLong, UnsupportedByModel
from shared.jobs import (
    CHARACTERS_PER_MAX_TOKEN,
    ClassifyRequest,
    DecodeRequest,
    EmbedRequest,
    InferenceRequest,
    RerankRequest,
    TokenizeRequest,
)
from shared.places import called
from shared.results import Token
from workers.images import Pixels
from workers.input_format import InputFormat, filled

#: Texts that share no token, so that what two renderings of a template end in together is the template's.
_FILLERS = ("0", "1 2 3 4")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised input."""

    ids: list[int]
    type_ids: list[int] | None
    #: Tokens before it was cut; equal to `len(ids)` when it was not.
    full_length: int
    is_query: bool = False
    #: Leading tokens that pooling leaves out.
    skip: int = 0
    #: Late chunking: how many of the tokens belong to each text; their sum is all of them.
    chunks: list[int] | None = None
    #: Not a text but an image, without ids; or one among them ...
    pixels: Pixels | None = None
    #: ... whose tokens begin here.
    image_at: int | None = None


class ModelTokenizer:
    """The tokenizer of one model, without padding and with its truncation."""

    def __init__(self, input_format: InputFormat) -> None:
        self._format = input_format
        self._tokenizer = _cutting(input_format, "longest_first")
        #: Of queries, where they have one of their own.
        self._query_tokenizer = self._tokenizer
        if input_format.query_tokenizer_json is not None:
            own = replace(input_format, tokenizer_json=input_format.query_tokenizer_json)
            self._query_tokenizer = _cutting(own, "longest_first")
        # Of a query and its document only the document is cut: a truncated query would change what every document is
        # scored against.
        self._rerank_tokenizer = _cutting(input_format, "only_second")
        self._plain = _tokenizer(input_format)
        self._plain.no_truncation()
        #: Whether single texts have segments: XLNet's last token is of one of its own.
        self._has_segments = any(self._plain.encode("a").type_ids)
        #: For queries, which a request's limit does not cut.
        self._unlimited = self
        self._most_characters = input_format.max_tokens * CHARACTERS_PER_MAX_TOKEN

    @property
    def cuts_left(self) -> bool:
        """Whether texts can be cut at their left: not where what is put around them would be cut with them."""
        return self._format.pairs != "template" and not self._format.chat and not self._format.skip_prompt

    @property
    def max_tokens(self) -> int:
        """Longest input, special tokens included."""
        return self._format.max_tokens

    def special_tokens(self, *, pair: bool) -> int:
        """How many tokens it puts around a text, or a pair of them."""
        return int(self._tokenizer.num_special_tokens_to_add(pair)) if self._format.add_special_tokens else 0

    def limited(self, most: int) -> "ModelTokenizer":
        """The same for inputs of at most so many tokens. It shares all that is large, so it costs nothing to make."""
        limits = {"max_tokens": most, "query_max_tokens": most, "document_max_tokens": most}
        own = {name: getattr(self._format, name) for name in limits}
        found = copy(self)
        found._format = replace(
            self._format, **{name: min(limits[name], own[name]) for name in limits if own[name] is not None}
        )
        found._unlimited = self
        return found

    def encode_request(self, request: InferenceRequest, pixels: Sequence[Pixels | None] = ()) -> list[Tokens]:
        """The sequences of a request: its texts, or its pairs, or its query followed by its documents.

        Args:
            request: The request.
            pixels: The images of its inputs, in their places; none when no input has one.

        Raises:
            InputTooLong: An image, or a prompt that is not cut, does not fit.
            KeyError: It names a prompt that the model does not have.
            ValueError: A query, or the first text of a pair, fills the model's maximum length on its own.
        """
        match request:
            case EmbedRequest(token_ids=ids) if ids is not None:
                return self.encode_ids(request, ids)
            case EmbedRequest(late_chunking=True):
                return [self.encode_document(request)]
            case EmbedRequest():
                return self.encode(
                    request.texts,
                    input_type=request.input_type,
                    prompt_name=self._prompt_name(request),
                    prompt=request.prompt,
                    pixels=pixels,
                    side=request.truncation_side,
                )
            case RerankRequest(max_document_tokens=most) if most is not None:
                return self._encode_shortened(request, most)
            case RerankRequest(truncation_side=side) if self._format.pairs == "separate":
                query = self._unlimited.encode([request.query], input_type="query")
                return query + self.encode(request.documents, input_type="document", side=side)
            case RerankRequest() if self._format.pairs == "template":
                return self.encode_template(request.query, request.documents, request.instruction)
            case RerankRequest(truncation_side=side):
                queries = [request.query] * len(request.documents)
                # Who was trained with prompts reads an instruction as one; in front of others' queries it would be noise.
                prompt = (request.instruction or None) if any(self._format.prompts.values()) else None
                return self.encode_pairs(queries, request.documents, cut_both=False, side=side, prompt=prompt)
            case ClassifyRequest(truncation_side=side):
                return self._encode_mixed(request.texts, request.seconds or [None] * len(request.texts), side)

    def _encode_shortened(self, request: RerankRequest, most: int) -> list[Tokens]:
        """The sequences of a rerank request whose documents are first cut to so many tokens of their own.

        Raises:
            InputTooLong: One has more, and the request forbids to cut it.
        """
        side = request.truncation_side
        texts = [_kept(document, self._most_characters, side) for document in request.documents]
        # Not the fast variant: that one leaves the offsets out.
        offsets = [encoding.offsets for encoding in self._plain.encode_batch(texts, add_special_tokens=False)]
        long = next((index for index, of in enumerate(offsets) if len(of) > most), None)
        if long is not None and not request.truncate:
            raise InputTooLong(
                f"{called(long)} has {len(offsets[long])} tokens and {most} are asked for; shorten it or allow truncation",
                index=long,
            )
        cut = [
            text if len(of) <= most else text[of[-most][0] :] if side == "left" else text[: of[most - 1][1]]
            for text, of in zip(texts, offsets, strict=True)
        ]
        tokens = self.encode_request(replace(request, documents=cut, max_document_tokens=None))
        first = len(tokens) - len(cut)
        return tokens[:first] + [
            replace(entry, full_length=entry.full_length + max(0, len(of) - most))
            for entry, of in zip(tokens[first:], offsets, strict=True)
        ]

    def _prompt_name(self, request: EmbedRequest) -> str | None:
        """The prompt that a request names, or the first of its `prompt_names` that there is."""
        if request.prompt_name is not None:
            return request.prompt_name
        return self._format.own_prompt(request.prompt_names)

    def _encode_mixed(self, texts: Sequence[str], seconds: Sequence[str | None], side: str) -> list[Tokens]:
        pairs = [(text, second) for text, second in zip(texts, seconds, strict=True) if second is not None]
        of_pairs = iter(self.encode_pairs([a for a, _ in pairs], [b for _, b in pairs], cut_both=True, side=side))
        singles = [text for text, second in zip(texts, seconds, strict=True) if second is None]
        of_singles = iter(self.encode(singles, side=side))
        return [next(of_singles if second is None else of_pairs) for second in seconds]

    def encode(
        self,
        texts: Sequence[str],
        *,
        input_type: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        pixels: Sequence[Pixels | None] = (),
        side: str = "right",
    ) -> list[Tokens]:
        """Tokenise single texts, each with the prompt in front; where there is an image it stands for the text.

        Cut at its left, a text loses the prompt first, as in transformers.
        """
        most = self._most_characters
        prefix = self._format.prompt_for(input_type=input_type, prompt_name=prompt_name, prompt=prompt)
        skip = self._prompt_tokens(prefix) if self._format.skip_prompt else 0
        input_type = input_type or self._format.default_input_type
        own = {"query": self._format.query_max_tokens, "document": self._format.document_max_tokens}
        longest = own.get(input_type or "") or self._format.max_tokens
        tokenizer = _cut_at(side, self._query_tokenizer if input_type == "query" else self._tokenizer, longest)
        images = pixels or [None] * len(texts)
        shown = [
            _kept(text, most, side) if image is None else self._format.image_text
            for text, image in zip(texts, images, strict=True)
        ]
        encodings = tokenizer.encode_batch_fast(
            [prefix + text for text in shown], add_special_tokens=self._format.add_special_tokens
        )
        tokens = [
            _tokens(
                encoding,
                beyond=len(text) > most,
                segments=self._has_segments,
                is_query=input_type == "query",
                skip=skip,
            )
            for encoding, text in zip(encodings, texts, strict=True)
        ]
        if input_type == "query":
            tokens = [self._expanded(entry) for entry in tokens]
        if not pixels:
            return tokens
        return [
            entry if image is None else self._with_image(entry, image, index)
            for index, (entry, image) in enumerate(zip(tokens, images, strict=True))
        ]

    def _with_image(self, marked: Tokens, image: Pixels, index: int) -> Tokens:
        """What an image is: no tokens, or as many of its token as it takes in the place of the one that marks it.

        Raises:
            InputTooLong: That is more than the model reads.
        """
        form = self._format
        if form.image_token < 0:
            return Tokens([], None, 0, pixels=image)
        count = len(image.values) // form.patches_per_token
        full = marked.full_length - 1 + count
        if full > form.max_tokens:
            raise InputTooLong(
                f"{called(index)} has {full} tokens with its prompt, and only a text is cut; {form.max_tokens} is the most",
                index=index,
            )
        # The last one: a prompt that spells it out comes before.
        at = len(marked.ids) - 1 - marked.ids[::-1].index(form.image_token)
        ids = [*marked.ids[:at], *[form.image_token] * count, *marked.ids[at + 1 :]]
        return Tokens(ids, None, full, pixels=image, image_at=at)

    @property
    def vocabulary_size(self) -> int:
        """How many token ids it knows."""
        return int(self._plain.get_vocab_size(with_added_tokens=True))

    def encode_ids(self, request: EmbedRequest, inputs: Sequence[Sequence[int] | None]) -> list[Tokens]:
        """Take token ids as they are; where a prompt goes in front, as the text that they stand for. None is a text.

        Raises:
            UnsupportedByModel: One of them is no token of the model.
        """
        size = self.vocabulary_size
        for number, ids in enumerate(inputs):
            if (wrong := next((token for token in ids or () if not 0 <= token < size), None)) is not None:
                raise UnsupportedByModel(
                    f"{called(number)}: {wrong} is no token id of this model, which has {size}", index=number
                )
        named = self._prompt_name(request)
        if self._format.prompt_for(input_type=request.input_type, prompt_name=named, prompt=request.prompt):
            decoded = self._plain.decode_batch([list(ids or ()) for ids in inputs], skip_special_tokens=True)
            texts = [
                text if ids is None else read for text, ids, read in zip(request.texts, inputs, decoded, strict=True)
            ]
            return self.encode_request(replace(request, texts=texts, token_ids=None))
        most = self._format.max_tokens
        kept = slice(-most, None) if request.truncation_side == "left" else slice(most)
        texts = [text for text, ids in zip(request.texts, inputs, strict=True) if ids is None]
        of_texts = iter(self.encode_request(replace(request, texts=texts, token_ids=None)) if texts else ())
        return [next(of_texts) if ids is None else Tokens(list(ids[kept]), None, len(ids)) for ids in inputs]

    def encode_document(self, request: EmbedRequest) -> Tokens:
        """Tokenise the texts as one document that knows which tokens each of them has.

        Texts are joined by a space where neither side has one. A special token goes with the text beside it, a prompt
        with the first text.
        """
        prefix = self._format.prompt_for(
            input_type=request.input_type, prompt_name=self._prompt_name(request), prompt=request.prompt
        )
        document, ends = prefix, list[int]()
        for text in request.texts:
            if ends and not (document[-1:].isspace() or text[:1].isspace()):
                document += " "
            document += text
            ends.append(len(document))
        most = self._most_characters
        # Not the fast variant: that one leaves the offsets out.
        (encoding,) = _cut_at("right", self._tokenizer, self._format.max_tokens).encode_batch(
            [document[:most]], add_special_tokens=self._format.add_special_tokens
        )
        parts = list(zip(encoding.offsets, encoding.special_tokens_mask, strict=True))
        # Not always the first: a text of white space has no tokens, and the opening one is not its own.
        owner = next((bisect_left(ends, end) for (_, end), special in parts if not special), 0)
        chunks = [0] * len(ends)
        for (_, end), special in parts:
            if not special:
                owner = max(owner, bisect_left(ends, end))
            chunks[owner] += 1
        tokens = _tokens(encoding, beyond=len(document) > most, segments=self._has_segments)
        return replace(tokens, chunks=chunks)

    def _expanded(self, query: Tokens) -> Tokens:
        missing = self._format.expansion_tokens - len(query.ids)
        if self._format.expansion_token is None or missing <= 0:
            return query
        ids = query.ids + [self._format.expansion_token] * missing
        return replace(query, ids=ids, full_length=max(query.full_length, len(ids)))

    def encode_pairs(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str],
        *,
        cut_both: bool,
        side: str = "right",
        prompt: str | None = None,
    ) -> list[Tokens]:
        """Tokenise pairs of texts, a prompt before the first.

        Args:
            firsts: First text of each pair.
            seconds: Second text of each pair.
            cut_both: Whether the longer text of a pair that is too long is cut, or always the second.
            side: At which side, `right` or `left`.
            prompt: The prompt's words; the default one's when absent.

        Raises:
            ValueError: The second is to be cut, and a first text alone fills the model's maximum length.
        """
        most = self._most_characters
        tokenizer = _cut_at(side, self._tokenizer if cut_both else self._rerank_tokenizer, self._format.max_tokens)
        prefix = self._format.prompt_for(input_type=None, prompt_name=None, prompt=prompt)
        pairs = [
            (prefix + _kept(first, most, side if cut_both else "right"), _kept(second, most, side))
            for first, second in zip(firsts, seconds, strict=True)
        ]
        try:
            encodings = tokenizer.encode_batch_fast(pairs, add_special_tokens=self._format.add_special_tokens)
        except Exception as err:  # tokenizers raises plain Exception
            raise ValueError(str(err)) from err
        return [
            _tokens(encoding, beyond=len(second) > most, segments=True)
            for encoding, second in zip(encodings, seconds, strict=True)
        ]

    def encode_template(self, query: str, documents: Sequence[str], instruction: str | None) -> list[Tokens]:
        """Tokenise what the model's template makes of a query and each document.

        Raises:
            ValueError: Everything but the document fills the model's maximum length.
        """
        most = self._most_characters
        given = {"query": query[:most], "instruction": (instruction or self._format.default_instruction)[:most]}
        template = self._format.template
        if instruction and self._format.instructed_template:
            template = self._format.instructed_template
        at = next(number for number, part in enumerate(template) if "{document" in part)
        around = [
            [] if number == at else self._plain_ids([filled(part, given)])[0] for number, part in enumerate(template)
        ]
        before, after = list(chain.from_iterable(around[:at])), list(chain.from_iterable(around[at:]))
        room = self._format.max_tokens - len(before) - len(after)
        part = template[at]
        if room <= len(self._plain_ids([filled(part, {**given, "document": ""})])[0]):
            raise ValueError("the query leaves no room for a document")
        bodies = self._plain_ids([filled(part, {**given, "document": document[:most]}) for document in documents])
        fixed = len(before) + len(after)
        cuts = any(len(body) > room for body in bodies)
        closing = self._closing(part, given) if cuts and self._format.keeps_closing else []
        return [
            Tokens(
                [*before, *(body if len(body) <= room else [*body[: room - len(closing)], *closing]), *after],
                None,
                # Of what is beyond the characters looked at only so much is known: that it is too long.
                max(fixed + len(body), self._format.max_tokens + 1 if len(document) > most else 0),
            )
            for body, document in zip(bodies, documents, strict=True)
        ]

    def tokenize(self, request: TokenizeRequest) -> list[tuple[Token, ...]]:
        """The tokens of each text with the prompt in front, uncut, and where they stand in it.

        Raises:
            InputTooLong: A text has more characters than are looked at.
            KeyError: There is no prompt of that name.
        """
        most = self._most_characters
        if (long := next((index for index, text in enumerate(request.texts) if len(text) > most), None)) is not None:
            raise InputTooLong(
                f"{called(long)} has {len(request.texts[long])} characters, and {most} are the most that are tokenised",
                index=long,
            )
        prefix = ""
        # A chat model's prompt is an instruction in the system's turn, not a text in front.
        if not self._format.chat or request.prompt_name is not None:
            prefix = self._format.prompt_for(input_type=None, prompt_name=request.prompt_name, prompt=None)
        texts = [prefix + text for text in request.texts]
        encodings = self._plain.encode_batch(texts, add_special_tokens=request.add_special_tokens)
        return [_described(encoding, text) for encoding, text in zip(encodings, texts, strict=True)]

    def decode(self, request: DecodeRequest) -> list[str]:
        """The text of each list of ids; an id that is not in the vocabulary has none."""
        texts: list[str] = self._plain.decode_batch(
            [list(ids) for ids in request.ids], skip_special_tokens=request.skip_special_tokens
        )
        return texts

    def _closing(self, part: str, given: Mapping[str, str]) -> list[int]:
        """What a part ends in whatever is in its places, as sentence-transformers finds it."""
        fillers = [{**given, "query": text, "document": text} for text in _FILLERS]
        one, other = self._plain_ids([filled(part, values) for values in fillers])
        backwards = zip(reversed(one), reversed(other), strict=False)
        common = next((at for at, (a, b) in enumerate(backwards) if a != b), 0)
        return one[len(one) - common :]

    def _plain_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

    def _prompt_tokens(self, prompt: str) -> int:
        """Tokens that a prompt makes at the front of a text, as sentence-transformers counts: without a closing one."""
        if not prompt:
            return 0
        ids = self._plain.encode(prompt, add_special_tokens=self._format.add_special_tokens).ids
        bare = self._plain.encode(prompt, add_special_tokens=False).ids
        return len(ids) if ids[-len(bare) :] == bare else len(ids) - 1


def _tokenizer(input_format: InputFormat) -> Tokenizer:
    tokenizer = Tokenizer.from_str(input_format.tokenizer_json)
    tokenizer.encode_special_tokens = input_format.split_special_tokens
    tokenizer.no_padding()
    return tokenizer


def _cutting(input_format: InputFormat, strategy: str) -> Tokenizer:
    tokenizer = _tokenizer(input_format)
    tokenizer.enable_truncation(input_format.max_tokens, strategy=strategy)
    return tokenizer


def _cut_at(side: str, tokenizer: Tokenizer, most: int) -> Tokenizer:
    """The tokenizer, set to cut at this side and length. That it can be set is why only one thread may tokenise."""
    truncation = tokenizer.truncation or {}
    if (truncation["direction"], truncation["max_length"]) != (side, most):
        tokenizer.enable_truncation(**{**truncation, "direction": side, "max_length": most})
    return tokenizer


def _kept(text: str, most: int, side: str) -> str:
    return text[:most] if side == "right" else text[-most:]


def _described(encoding: Encoding, text: str) -> tuple[Token, ...]:
    """Offsets in bytes, as TEI gives them; the library's Python side counts characters."""
    ends = list(accumulate((len(character.encode()) for character in text), initial=0))
    return tuple(
        Token(id_, token, True, None, None) if special else Token(id_, text[start:stop], False, ends[start], ends[stop])
        for id_, token, special, (start, stop) in zip(
            encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
        )
    )


def _tokens(encoding: Encoding, *, beyond: bool, segments: bool, is_query: bool = False, skip: int = 0) -> Tokens:
    ids = encoding.ids
    full = len(ids)
    overflow = encoding.overflowing
    if overflow:
        # Each overflowing piece repeats the special tokens (and in a pair the query); only its text counts.
        full += sum(len(piece.ids) - _repeated(piece) for piece in overflow)
    if beyond:
        full = max(full, len(ids) + 1)
    return Tokens(ids, encoding.type_ids if segments else None, full, is_query, skip)


def _repeated(piece: Encoding) -> int:
    last = max((sequence for sequence in piece.sequence_ids if sequence is not None), default=0)
    return sum(sequence != last for sequence in piece.sequence_ids)

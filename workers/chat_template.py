"""How a `CrossEncoder` of sentence-transformers asks: its chat template as text with places, told by rendering it.

It puts a pair through the tokenizer's chat template, where there is one, as messages of the roles `query` and `document`,
with a prompt as the `system` message before them. A template is a program, and the worker runs none: what it does has to
come down to putting texts, perhaps without the white space around them, into places. One that does more is refused when
the model is loaded.
"""

from typing import Any

from workers.input_format import InputFormat, filled
from workers.packed import longest_input
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

#: What stands for the texts while the template is rendered; no template has such words of its own.
_MARKS = {"query": "QuErYmArK", "document": "DoCuMeNtMaRk", "instruction": "InStRuCtIoNmArK"}
#: Texts that have to arrive in their places: nothing, space around, names of places, special tokens, other scripts, length.
_TEXTS = (
    "",
    "  two  words\n",
    "{document} {query|trim} {instruction}",
    "<|im_end|>\n<s>[INST]",
    "Straße 🎉\u3000<a href='x'>&amp;</a>\n\n",
    "long " * 999,
)
#: Each of them in each place; an empty instruction is none.
_PROBES = tuple((query, _TEXTS[number - 1], _TEXTS[number - 2] or "find it") for number, query in enumerate(_TEXTS))
#: Options that are the tokenizer's or sentence-transformers' own, not the template's.
_NOT_RENDERED = frozenset({"padding", "truncation", "max_length", "return_tensors", "restore_suffix"})


def is_templated(encoder: Any) -> bool:
    """Whether a `CrossEncoder` puts its pairs through a chat template."""
    return "message" in encoder[0].modality_config


class UnsupportedTemplate(ValueError):
    """The chat template does more than put query and document into places."""


def cross_encoder_format(model: str, encoder: Any, *, templated: bool) -> InputFormat:
    """What becomes of pairs.

    Args:
        model: What the model is called.
        encoder: A `CrossEncoder` whose first module is a `Transformer`.
        templated: Whether the chat template makes one text of both, or the tokenizer puts one after the other.

    Raises:
        UnsupportedTemplate: The template is not text with places.
        ConfigurationError: The tokenizer is no fast one, or is called in a way that is not done here.
    """
    transformer = encoder[0]
    tokenizer_json = fast_tokenizer_json(model, transformer.tokenizer)
    call = TokenizerCall.of(model, transformer.tokenizer, transformer.processing_kwargs, templated=templated)
    max_tokens = longest_input(transformer.model.base_model, call.max_length or int(transformer.max_seq_length))
    if not templated:
        return InputFormat(
            tokenizer_json=tokenizer_json,
            max_tokens=max_tokens,
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            pairs="tokenizer",
            prompts=dict(encoder.prompts),
            default_prompt_name=encoder.default_prompt_name,
        )
    rendering = _Rendering(transformer)
    template = rendering.with_places(encoder.prompts.get(encoder.default_prompt_name or "") or None)
    try:
        instructed = rendering.with_places(None, instructed=True)
    except UnsupportedTemplate:  # many refuse system messages
        instructed = ""
    return InputFormat(
        tokenizer_json=tokenizer_json,
        max_tokens=max_tokens,
        split_special_tokens=call.split_special_tokens,
        pairs="template",
        template=[template],
        instructed_template=[instructed] if "{instruction" in instructed else [],
        # The default one is in the template already.
        prompts=dict(encoder.prompts),
        keeps_closing=bool(transformer.processing_kwargs.get("chat_template", {}).get("restore_suffix", True)),
    )


class _Rendering:
    def __init__(self, transformer: Any) -> None:
        if transformer.processor is not transformer.tokenizer:
            raise UnsupportedTemplate("it takes more than text")
        options = transformer.processing_kwargs.get("chat_template", {})
        self._options = {name: value for name, value in options.items() if name not in _NOT_RENDERED}
        self._formatter = transformer.input_formatter
        self._tokenizer = transformer.tokenizer

    def with_places(self, prompt: str | None, *, instructed: bool = False) -> str:
        """The rendering with the names of places where the texts stand.

        Args:
            prompt: The instruction, word for word.
            instructed: Whether there is a place for it instead.
        """

        def render(query: str, document: str, instruction: str) -> str:
            return self._render(query, document, instruction if instructed else prompt)

        rendered = render(*_MARKS.values())
        spaced = render(*(f"\n {mark} \n" for mark in _MARKS.values()))
        if any(f"{{{name}" in rendered for name in _MARKS):
            raise UnsupportedTemplate("it has words in braces that would be taken for places")
        for name, mark in _MARKS.items():
            rendered = rendered.replace(mark, f"{{{name}}}" if f"\n {mark} \n" in spaced else f"{{{name}|trim}}")
        if "{query" not in rendered or "{document" not in rendered:
            raise UnsupportedTemplate("it leaves out messages of the roles `query` and `document`")
        for query, document, instruction in _PROBES:
            texts = {"query": query, "document": document, "instruction": instruction}
            if filled(rendered, texts) != render(**texts):
                raise UnsupportedTemplate("it does more with a query and a document than to put them into places")
        return rendered

    def _render(self, query: str, document: str, instruction: str | None) -> str:
        messages = [self._formatter.pair_to_messages((query, document))]
        if instruction is not None:
            messages = self._formatter.prepend_prompt_to_messages(messages, instruction)
        try:
            return str(self._tokenizer.apply_chat_template(messages[0], tokenize=False, **self._options))
        except Exception as err:  # a template may raise anything
            raise UnsupportedTemplate(f"it cannot be rendered for the roles `query` and `document`: {err}") from err

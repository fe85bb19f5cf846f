"""How a model wants its inputs: what the engine process, which knows the model, tells the worker, which tokenises."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from workers.prompts import PROMPT_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """Everything that turns a request's texts into token ids. Plain data: it crosses a process boundary."""

    #: The tokenizer in the `tokenizers` library's JSON, as the reference implementation configured it.
    tokenizer_json: str
    #: Longest input, special tokens included.
    max_tokens: int
    #: Whether the tokenizer puts its special tokens around texts and pairs.
    add_special_tokens: bool = True
    #: Whether a special token that a text spells out is split into words; the tokenizer's JSON does not say it.
    split_special_tokens: bool = False
    #: What becomes of a query and its documents: sequences of their own, pairs by the tokenizer's rule, or a text that the
    #: template makes of both.
    pairs: Literal["separate", "tokenizer", "template"] = "separate"
    #: The parts of that text, with `{query}`, `{document}` and `{instruction}`. Each is tokenised as one string, without
    #: special tokens of the tokenizer's own; the one with the document is cut at its end when all are too long together.
    #: Instead of `{document}` a part may say `{document|trim}`: without the white space around it.
    template: Sequence[str] = field(default_factory=list)
    #: What `{instruction}` is when a request gives none.
    default_instruction: str = ""
    #: The template of requests with an instruction, where that is another one.
    instructed_template: Sequence[str] = field(default_factory=list)
    #: Whether a part that was cut still ends in the tokens that stand behind its last place, in the place of as many others.
    keeps_closing: bool = False
    #: Prompts by name; a prompt is put in front of the text.
    prompts: Mapping[str, str] = field(default_factory=dict)
    #: Those of them, all empty, that are not the model's own: they can be asked for by name, and are for no purpose.
    unstated_prompts: Sequence[str] = field(default_factory=list)
    #: The prompt of a text for which none was asked.
    default_prompt_name: str | None = None
    #: What texts are when a request does not say: `query` or `document`.
    default_input_type: str | None = None
    #: The tokenizer of queries, where they have one of their own.
    query_tokenizer_json: str | None = None
    #: Longest query and longest document, where the model has limits of their own for them.
    query_max_tokens: int | None = None
    document_max_tokens: int | None = None
    #: Queries are filled up with this token (late interaction's query expansion) ...
    expansion_token: int | None = None
    #: ... to so many tokens.
    expansion_tokens: int = 0
    #: Whether pooling leaves the prompt's tokens out (INSTRUCTOR).
    skip_prompt: bool = False
    #: How many token ids have an embedding; None where all have one, as far as is known.
    embeddings: int | None = None
    #: Every text is computed at this length, whatever its own; 0 where it is not.
    padded_to: int = 0
    #: Folder of the image processor, where the model takes images ...
    image_processor: str | None = None
    #: ... and what one image costs, in tokens, where all cost the same.
    image_tokens: int = 0
    #: Least and most pixels of an image, where they are not its processor's.
    image_pixels: Sequence[int] = field(default_factory=list)
    #: Chat models: the instruction (the prompt, or `default_instruction`) stands between the first two of these strings, the
    #: input between the last two. The second ends in a special token: what is behind it is tokenised by itself.
    chat: Sequence[str] = field(default_factory=list)
    #: What an image is among tokens; in a chat, in front of a text that comes with it ...
    image_text: str = ""
    #: ... with this token once, which is repeated for each so many patches.
    image_token: int = -1
    patches_per_token: int = 1
    #: What a patch costs beside its tokens, in tokens.
    tokens_per_patch: float = 0.0
    #: What an input of neither is.
    chat_empty: str = ""

    def prompt_for(self, *, input_type: str | None, prompt_name: str | None, prompt: str | None) -> str:
        """The prompt of a request.

        A prompt in words goes before a name, a name before the kind of input, and that before the default. A query's or
        document's prompt is the first of its `PROMPT_NAMES` that is the model's own.

        Raises:
            KeyError: There is no prompt of that name.
        """
        if prompt is not None:
            return prompt
        if prompt_name is not None:
            return self.prompts[prompt_name]
        names = PROMPT_NAMES.get(input_type or self.default_input_type or "")
        if names is None:
            return self.prompts.get(self.default_prompt_name or "", "")
        # As sentence-transformers has it: queries and documents without a prompt of theirs get none, not the default.
        found = self.own_prompt(names)
        return "" if found is None else self.prompts[found]

    def own_prompt(self, names: Sequence[str]) -> str | None:
        """The first of these names under which the model has a prompt of its own, be it an empty one."""
        return next((name for name in names if name in self.prompts and name not in self.unstated_prompts), None)


_PLACEHOLDER = re.compile(r"\{(query|document|instruction)(\|trim)?\}")


def filled(part: str, values: Mapping[str, str]) -> str:
    """Put the values in their places, in one pass: a text that holds a place's name is not filled in again."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]].strip() if found[2] else values[found[1]], part)

"""What a chat model reads: an instruction as the system's turn, and a text, an image or both as the user's.

The template's own tokens survive however long the text is: it is cut at its end, and the last token, which such models are
trained to gather the input in, stays the template's.
"""

import unicodedata
from collections.abc import Sequence

from shared.errors import InputTooLong
from shared.places import called
from workers.images import Pixels
from workers.tokenization import ModelTokenizer, Tokens


class ChatTokenizer(ModelTokenizer):
    """The tokenizer of a model whose format has `chat`."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        input_type: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        pixels: Sequence[Pixels | None] = (),
        side: str = "right",  # noqa: ARG002 - `cuts_left` says that there is no other
    ) -> list[Tokens]:
        """Tokenise texts, images, or images that each have a text beside them, with the prompt as instruction.

        Raises:
            InputTooLong: The prompt or an image does not fit; only texts are cut.
        """
        form = self._format
        prefix = form.prompt_for(input_type=input_type, prompt_name=prompt_name, prompt=prompt)
        instruction = sentence(prefix) or form.default_instruction
        before_instruction, before, opening, closing = form.chat
        head, start, tail = self._plain_ids(
            [before_instruction + instruction[: self._most_characters] + before, opening, closing]
        )
        fixed = len(head) + len(tail)
        room = form.max_tokens - fixed
        images = pixels or [None] * len(texts)
        contents = [
            ("" if image is None else form.image_text) + text[: self._most_characters]
            for text, image in zip(texts, images, strict=True)
        ]
        bodies = self._plain_ids([opening + (content or form.chat_empty) for content in contents])
        tokens: list[Tokens] = []
        for index, (text, body, image) in enumerate(zip(texts, bodies, images, strict=True)):
            image_at, least = None, len(start) + 1
            if image is not None:
                # The image goes first, so the first such token is its own, whatever the text says.
                at, count = body.index(form.image_token), len(image.values) // form.patches_per_token
                body[at : at + 1] = [form.image_token] * count
                image_at, least = len(head) + at, at + count + 1
            if least > room:
                raise InputTooLong(
                    f"{called(index)} has at least {fixed + least} tokens with its prompt, and only a text is cut; "
                    f"{form.max_tokens} is the most",
                    index=index,
                )
            # Of what is beyond the characters looked at only so much is known: that it is too long.
            full = max(fixed + len(body), form.max_tokens + 1 if len(text) > self._most_characters else 0)
            tokens.append(Tokens([*head, *body[:room], *tail], None, full, pixels=image, image_at=image_at))
        return tokens


def sentence(instruction: str) -> str:
    """An instruction with a full stop, if it ends without punctuation."""
    stripped = instruction.strip()
    if stripped and not unicodedata.category(stripped[-1]).startswith("P"):
        return f"{stripped}."
    return stripped

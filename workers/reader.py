"""What makes tokens of a model's inputs, and says what each of them costs."""

from shared.errors import InputTooLong
from workers.chat_tokenizer import ChatTokenizer
from workers.images import ImageReader
from workers.input_format import InputFormat
from workers.tokenization import ModelTokenizer, Tokens


class Reader:
    """A model's tokenizer, and its image processor where it takes images."""

    def __init__(self, form: InputFormat) -> None:
        self.tokenizer = ChatTokenizer(form) if form.chat else ModelTokenizer(form)
        folder = form.image_processor
        self.images = ImageReader(folder, form.image_pixels) if folder is not None else None
        self._padded_to = form.padded_to
        self._image_tokens, self._tokens_per_patch = form.image_tokens, form.tokens_per_patch

    def cost(self, entry: Tokens) -> int:
        """What an input costs in a batch, in tokens."""
        if not entry.ids:
            return self._image_tokens
        patches = 0 if entry.pixels is None else len(entry.pixels.values)
        return max(len(entry.ids), self._padded_to) + round(self._tokens_per_patch * patches)

    def blank_image(self, side: int) -> Tokens | None:
        """A blank square of so many pixels a side; None where images are not taken, or this one does not fit."""
        if self.images is None:
            return None
        try:
            (entry,) = self.tokenizer.encode([""], pixels=[self.images.blank(side)])
        except InputTooLong:
            return None
        return entry

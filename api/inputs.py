"""Inputs that are texts, images or both, in the words of the clients that send them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from api import wire
from api.fields import Documented, RequestFields, Several, Text, Texts, TokenIds, either
from shared.errors import ContradictoryFields, InvalidRequest

#: A text, empty where there is none, and the reference of an image (a URL, a data URI or base64), None where there is none.
TextAndImage = tuple[str, str | None]

#: One text or a list of texts; or token ids of one or of several texts, as LangChain's client for OpenAI sends them.
TextsOrTokens = Text | Texts | TokenIds | Several[TokenIds]

_GIVEN = {"type": "string", "minLength": 1}
#: A URL, a data URI or base64: a format of our own, and no one else's.
ImageReference = Annotated[str, Documented(minLength=1, format="image-reference")]


class ImageUrl(RequestFields):
    """An image as OpenAI's messages have it."""

    url: ImageReference = Field(description="An http(s) URL, a data URI, or base64.")


class MixedInput(RequestFields):
    """A text, an image or both as an object: `{"text": ...}`, `{"image": ...}` (Jina), or with a `type` (OpenAI)."""

    model_config = either(
        *({"required": [name], "properties": {name: _GIVEN}} for name in ("text", "value", "image", "url")),
        {"required": ["image_url"], "properties": {"image_url": {"type": ["string", "object"]}}},
    )

    type: str | None = Field(None, description="`text`, `image` or `image_url`; may be left out.")
    text: str | None = Field(None, description="A text.")
    value: str | None = Field(None, description="The same.")
    image: ImageReference | None = Field(None, description="An image: an http(s) URL, a data URI, or base64.")
    url: ImageReference | None = Field(None, description="The same.")
    image_url: ImageReference | ImageUrl | None = Field(None, description='The same, also as `{"url": ...}`.')

    def texts(self) -> list[str]:
        """Its text, under whatever name; several where it has several names."""
        return [given for given in (self.text, self.value) if given is not None]

    def images(self) -> list[str]:
        """The same of its image."""
        image_url = self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url
        return [given for given in (self.image, self.url, image_url) if given is not None]

    def text_and_image(self, param: str = "input") -> TextAndImage:
        """What it holds.

        Args:
            param: The request's field that has it.

        Raises:
            InvalidRequest: It has neither, or several of a kind.
        """
        return together([self], param)


#: Texts, and images among them; an empty text has no place here either.
MixedInputs = Several[Text | MixedInput]


class ContentInput(RequestFields):
    """One input made of parts: at most one text and one image (Cohere's `inputs`, OpenAI's messages)."""

    content: Text | Several[MixedInput] = Field(description="A text, or its parts.")

    def text_and_image(self, param: str = "input") -> TextAndImage:
        """What it holds.

        Args:
            param: The request's field that has it.

        Raises:
            InvalidRequest: It has neither, or several of a kind.
        """
        return (self.content, None) if isinstance(self.content, str) else together(self.content, param)


def together(parts: Sequence[MixedInput], param: str) -> TextAndImage:
    """One input of all the parts.

    Raises:
        InvalidRequest: One of them has neither a text nor an image, or they have several of a kind.
    """
    texts = [text for part in parts for text in part.texts()]
    images = [image for part in parts for image in part.images()]
    if not parts or not all(part.texts() or part.images() for part in parts):
        wanted = '"text" nor an "image" (a URL, a data URI or base64)'
        raise InvalidRequest(f"an object in `{param}` has neither a {wanted}", param=param)
    if len(texts) > 1 or len(images) > 1:
        raise ContradictoryFields(f"an object in `{param}` has more than one text or one image", param=param)
    return texts[0] if texts else "", images[0] if images else None


def separated(
    inputs: Sequence[str | MixedInput | ContentInput], param: str = "input"
) -> tuple[list[str], list[str | None] | None]:
    """Texts and references of images, each in its place; None for the latter when there are none.

    Raises:
        InvalidRequest: An object is neither a text nor an image.
    """
    pairs = [(entry, None) if isinstance(entry, str) else entry.text_and_image(param) for entry in inputs]
    texts, images = [text for text, _ in pairs], [image for _, image in pairs]
    return texts, images if any(image is not None for image in images) else None


def only_texts(given: TextsOrTokens) -> list[str]:
    """The texts of an `input`.

    Raises:
        TokenInputUnsupported: It has token ids.
        EmptyInput: It has no text, or an empty one.
    """
    entries = [given] if isinstance(given, str) else given
    texts = [entry for entry in entries if isinstance(entry, str)]
    if len(texts) != len(entries):
        raise wire.token_ids_refused("input")
    wire.refuse_empty(texts, "input")
    return texts

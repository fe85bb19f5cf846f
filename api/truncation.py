"""Texts that are longer than the model takes: what clients ask for in their own words."""

from typing import Any, Literal

from pydantic import Field

from api.fields import MostTokens, RequestFields
from api.synonyms import agreed

#: By the end of a text that NVIDIA's and Cohere's words cut off.
_SIDES = {"START": "left", "END": "right"}


class TruncationFields(RequestFields):
    """Fields of a request about over-long texts. They are cut unless it says otherwise; a header counts them."""

    truncate: bool | Literal["NONE", "START", "END"] | None = Field(
        None,
        description="Cut over-long texts (default) or refuse them (Jina); or which end is cut off, `NONE` for refuse "
        "(NVIDIA, Cohere).",
    )
    truncation: bool | None = Field(None, description="The same (Voyage).")
    truncate_prompt_tokens: MostTokens | None = Field(
        None,
        description="Cut each input to so many tokens, special ones included (vLLM); -1: to the model's longest (default).",
    )
    truncation_side: Literal["right", "left"] | None = Field(
        None, description="Which end of an over-long text is cut off: `right`, its end (default), or `left` (vLLM)."
    )

    def cutting(self) -> dict[str, Any]:
        """What a request of the queue says of it.

        Raises:
            InvalidRequest: Two fields contradict each other.
        """
        cuts = agreed(
            {
                "truncate": self.truncate != "NONE" if isinstance(self.truncate, str) else self.truncate,
                "truncation": self.truncation,
                "truncate_prompt_tokens": None if self.truncate_prompt_tokens is None else True,
            }
        )
        side = agreed(
            {
                "truncate": _SIDES.get(self.truncate) if isinstance(self.truncate, str) else None,
                "truncation_side": self.truncation_side,
            }
        )
        length = self.truncate_prompt_tokens
        return {
            "truncate": cuts is not False,
            "truncation_side": side or "right",
            "max_tokens": None if length == -1 else length,
        }

"""Texts that are longer than the model takes: what clients ask for in their own words."""

from typing import Annotated, Any, Literal

from pydantic import Field

from api.fields import Documented, Integer, RequestFields
from api.synonyms import agreed
from shared.errors import InvalidRequest

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
    truncate_prompt_tokens: Annotated[Integer, Documented(const=-1)] | None = Field(
        None,
        description="-1: cut at the model's longest input (vLLM), which is the default. No other length is served.",
    )
    truncation_side: Literal["right", "left"] | None = Field(
        None, description="Which end of an over-long text is cut off: `right`, its end (default), or `left` (vLLM)."
    )

    def cutting(self) -> dict[str, Any]:
        """What a request of the queue says of it.

        Raises:
            InvalidRequest: Two fields contradict each other, or a length was named.
        """
        if self.truncate_prompt_tokens not in (None, -1):
            raise InvalidRequest(
                f"`truncate_prompt_tokens` {self.truncate_prompt_tokens} is not served; -1 cuts at the model's own length",
                param="truncate_prompt_tokens",
            )
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
        return {"truncate": cuts is not False, "truncation_side": side or "right"}

"""Lists in pages, as OpenAI has them: ask for one more than is shown, and it is known whether there are more."""

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

ItemT = TypeVar("ItemT", bound=BaseModel)


class PageQuery(BaseModel):
    """Which page."""

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)


class Page(BaseModel, Generic[ItemT]):
    """Some objects, and whether there are more."""

    object: Literal["list"] = "list"
    data: list[ItemT]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_of(kind: type[Page[Any]], found: Sequence[Any], limit: int, **more: Any) -> dict[str, Any]:
    """A page of objects.

    Args:
        kind: Of the page.
        found: The objects, one more than are shown where there are more.
        limit: How many are shown.
        **more: Further fields of the page.
    """
    data = found[:limit]
    first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
    page = kind(data=data, first_id=first_id, last_id=last_id, has_more=len(found) > limit, **more)
    return page.model_dump(mode="json")

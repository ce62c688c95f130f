"""Lists that are read page by page."""

from typing import Annotated, Any, Generic, TypeVar

import ormar
from fastapi import Query
from pydantic import BaseModel, Field

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list, and how long the whole list is."""

    items: list[Item]
    total: int
    page: int
    page_size: int


class PageQuery(BaseModel):
    """Which page of a list a client asks for."""

    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=20, ge=1, le=100)


PageWanted = Annotated[PageQuery, Query()]


async def page_of(rows: ormar.QuerySet[Any], wanted: PageQuery) -> dict[str, Any]:
    """Read one page of the rows: what a `Page` is made from."""
    return {
        "items": await rows.paginate(wanted.page, wanted.page_size).all(),
        "total": await rows.count(),
        **wanted.model_dump(),
    }

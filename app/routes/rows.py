"""Single rows: found or 404, changed column by column, refused with 409."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ormar
from fastapi import HTTPException, status

Row = TypeVar("Row", bound=ormar.Model)


async def found(rows: ormar.QuerySet[Row], row_id: int) -> Row:
    """Return the row with this id, or answer 404 with what was looked for."""
    row = await rows.get_or_none(id=row_id)
    if row is None:
        kind = rows.model.__name__.lower()
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"there is no {kind} {row_id}")
    return row


async def changed(row: Row, change: Mapping[str, Any]) -> Row:
    """Write the columns that the client named, and no others.

    ormar writes all columns unless it is told which, and would put back what other requests
    changed since the row was read.
    """
    return await row.update(_columns=list(change), **change) if change else row


@contextmanager
def conflicts(*, missing: str = "", taken: str = "") -> Iterator[None]:
    """Answer 409 where the database refuses a write, and say why.

    The database is asked by writing, not by looking first: between a look and the write, another
    worker may delete the row that is referred to.

    Args:
        missing: what to say if the write refers to a row that does not exist.
        taken: what to say if another row has the same unique columns.
    """
    reasons: dict[object, str] = {
        "SQLITE_CONSTRAINT_FOREIGNKEY": missing,
        "SQLITE_CONSTRAINT_UNIQUE": taken,
        # https://www.postgresql.org/docs/current/errcodes-appendix.html
        "23503": missing,
        "23505": taken,
        # https://mariadb.com/kb/en/mariadb-error-codes/
        1452: missing,
        1062: taken,
    }
    try:
        yield
    except Exception as error:
        # Each driver has a class of its own; what it says is told by one of these.
        codes = [getattr(error, name, None) for name in ("sqlite_errorname", "sqlstate")]
        codes += [one for one in error.args[:1] if isinstance(one, int)]
        reason = next(filter(None, map(reasons.get, codes)), "")
        if not reason:
            raise
        raise HTTPException(status.HTTP_409_CONFLICT, reason) from error

"""The connection between the models and one database."""

import sqlite3
from typing import Any

import databases

from app.models import MODELS


class ForeignKeysConnection(sqlite3.Connection):
    """A connection that enforces foreign keys, which SQLite does only where it is asked to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA foreign_keys = ON").close()


class CatalogueDatabase(databases.Database):
    """A database which becomes the one of the models when it connects: a file, or of a server.

    An ormar model has one database for the whole process, named where its class is declared,
    before anybody knows the URL. Each application therefore has a `CatalogueDatabase` of its own,
    and the models follow the one that is connected. Applications may follow one another in a
    process, as they do in tests; two at once would write into each other's database, so the second
    to connect gets a `RuntimeError`.
    """

    def __init__(self, url: str) -> None:
        # `databases` 0.9 opens a connection for each query or transaction, and gives what it does
        # not know to sqlite3.connect(): a factory is how a PRAGMA reaches every one of them.
        of_sqlite = databases.DatabaseURL(url).dialect == "sqlite"
        options: dict[str, Any] = {"factory": ForeignKeysConnection} if of_sqlite else {}
        super().__init__(url, **options)

    async def connect(self) -> None:
        """Take the models over from a database that is no longer connected."""
        for model in MODELS:
            current = model.ormar_config.database
            if current is not self and current.is_connected:
                raise RuntimeError("another application of this process uses the models")
        await super().connect()
        for model in MODELS:
            model.ormar_config.database = self

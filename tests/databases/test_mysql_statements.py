"""What statements of MariaDB and MySQL do to the transaction that they come in."""

from __future__ import annotations

import pytest

from orchestrator.databases.mysql.statements import LOOKS, changes_one, commits, is_whole

STAYS = [
    "INSERT INTO a VALUES (';')",
    "  # why\nSELECT 1",
    "(SELECT 1)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "SET @a = 1",
    "SET SESSION sql_mode = ''",
    "UPDATE a SET autocommit = 1",
    "CREATE TEMPORARY TABLE t (a INT)",
    "DROP TEMPORARY TABLE t",
    "SAVEPOINT s",
]
CHANGES = [
    "ALTER TABLE a ADD b INT, ADD c INT;",
    "DROP INDEX i ON t",
    "RENAME TABLE a TO b",
    "CREATE OR REPLACE TABLE t (a INT)",
    "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
    "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.x = 1; END;",
    "TRUNCATE TABLE a",
]
IN_PARTS = ["DROP TABLE a, b", "RENAME TABLE a TO b, c TO d"]
OTHERS = [
    "SET STATEMENT lock_wait_timeout = 5 FOR ALTER TABLE a ADD b INT",
    "SET autocommit = 0",
    "SET PASSWORD = PASSWORD('x')",
    "SET DEFAULT ROLE x",
    "INSERT INTO a VALUES (1); ALTER TABLE a ADD b INT",
    "ALTER TABLE a ADD b INT; ALTER TABLE a ADD c INT",
    "/*!40000 ALTER TABLE a DISABLE KEYS */",
    "/*M! ALTER TABLE a ADD b INT */",
    "IF 1 THEN ALTER TABLE a ADD b INT; END IF",
    "FOR i IN 1..2 DO ALTER TABLE a ADD b INT; END FOR",
    "BEGIN NOT ATOMIC ALTER TABLE a ADD b INT; END",
    "BACKUP STAGE END",
    "CALL p()",
    "EXECUTE s",
    "OPTIMIZE TABLE a",
    "ANALYZE TABLE a",
    "LOCK TABLES a WRITE",
    "COMMIT",
    "something new",
]


@pytest.mark.parametrize("statement", STAYS)
def test_these_stay_in_their_transaction(statement: str) -> None:
    assert not commits(statement)


@pytest.mark.parametrize("statement", CHANGES)
def test_these_commit_and_are_done_or_not(statement: str) -> None:
    assert commits(statement)
    assert changes_one(statement)
    assert is_whole(statement)


@pytest.mark.parametrize("statement", IN_PARTS)
def test_these_may_be_done_in_part(statement: str) -> None:
    assert commits(statement)
    assert changes_one(statement)
    assert not is_whole(statement)


@pytest.mark.parametrize("statement", OTHERS)
def test_of_all_others_nothing_is_presumed(statement: str) -> None:
    """They are taken to commit, and wait as long as they do without the orchestrator."""
    assert commits(statement)
    assert not changes_one(statement)
    assert not is_whole(statement)
    assert not LOOKS.match(statement)

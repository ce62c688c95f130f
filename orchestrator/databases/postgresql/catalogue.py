"""What is asked of PostgreSQL's catalogue, in its own words.

https://www.postgresql.org/docs/current/catalogs.html, and the statistics views.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from orchestrator.databases.postgresql.holder import FENCE, NAMESPACE

TABLES: Final = sa.text(
    """
    SELECT c.relname
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
      AND n.nspname IN (current_schema(), :schema)
      AND c.relname NOT IN (:version_table, 'orchestrator_interrupted')
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
    """
)
"""Those that count, of the default schema and of another: no partitions, none of extensions."""

LACKING: Final = sa.text(
    "SELECT to_regclass(quote_ident(coalesce(:schema, current_schema())) || '.' "
    "|| quote_ident(:name)) IS NULL"
)
"""Whether a table is not there."""

MAY_READ: Final = sa.text(
    """
    SELECT has_table_privilege(r.rolname, c.oid, 'SELECT')
      AND has_schema_privilege(r.rolname, c.relnamespace, 'USAGE')
    FROM pg_catalog.pg_roles AS r, pg_catalog.pg_class AS c
    WHERE r.rolname = :user AND c.oid = to_regclass(
      coalesce(quote_ident(:schema) || '.', '') || quote_ident(:table)
    )
    """
)
"""Whether a user may read a table."""

SCHEMA_OF: Final = sa.text(
    """
    SELECT coalesce(
      (SELECT n.nspname
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
       WHERE c.oid = to_regclass(quote_ident(:name))),
      current_schema()
    )
    """
)
"""Where a table is found by the search path, or would be made."""

SEES: Final = sa.text(
    """
    SELECT EXISTS (
      SELECT FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_database AS d ON d.oid = l.database
      WHERE l.locktype = 'advisory' AND d.datname = current_database()
        AND l.classid::bigint = :namespace AND l.objid::bigint = :key
    )
    """
).bindparams(namespace=NAMESPACE % 2**32)
"""Whether an advisory lock of ours is held in this database."""

HAS_FENCE: Final = sa.text(
    """
    SELECT EXISTS (
      SELECT FROM pg_catalog.pg_locks
      WHERE locktype = 'advisory' AND classid::bigint = :namespace AND objid::bigint = :fence
        AND pid = :pid
    )
    """
).bindparams(namespace=NAMESPACE % 2**32, fence=FENCE)
"""Whether a session is at the work of a pass."""

BLOCKERS: Final = sa.text(
    """
    SELECT a.pid, a.usename, a.application_name, a.state, a.xact_start, a.query
    FROM unnest(pg_blocking_pids(:pid)) AS b (pid)
    JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
    ORDER BY a.xact_start NULLS LAST
    """
)
"""Who keeps a session waiting, those first who began first."""

PROGRESS: Final = sa.text(
    """
    SELECT phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END,
      CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END
    FROM pg_catalog.pg_stat_progress_create_index WHERE pid = :pid
    """
)
"""How far an index is that a session builds."""

HAS_INVALID: Final = "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE NOT indisvalid)"
"""Whether there is an index that nobody can use: asked often, and quickly answered."""

INVALID: Final = """
    SELECT n.nspname, i.relname, t.relname
    FROM pg_catalog.pg_index AS x
    JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class AS t ON t.oid = x.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = i.relnamespace
    WHERE NOT x.indisvalid AND i.relkind = 'i' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.index_relid = i.oid
      )
    ORDER BY 1, 2
"""
"""Indexes that nobody builds and nobody can use."""

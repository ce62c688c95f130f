"""What is asked of a server's catalogue, and of what it tells of its sessions."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

TABLES: Final = sa.text(
    "SELECT table_name FROM information_schema.tables "
    "WHERE table_schema IN (DATABASE(), :schema) "
    "AND table_name NOT IN (:version_table, 'orchestrator_interrupted') "
    "AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')"
)
HAS: Final = sa.text(
    "SELECT count(*) FROM information_schema.tables "
    "WHERE table_schema = coalesce(:schema, DATABASE()) AND table_name = :name"
)

HOLDERS: Final = sa.text(
    """
    SELECT DISTINCT others.processlist_id, others.processlist_user, others.processlist_command,
        CAST(NULL AS DATETIME), others.processlist_info
    FROM performance_schema.threads AS own
    JOIN performance_schema.metadata_locks AS wanted
        ON wanted.owner_thread_id = own.thread_id AND wanted.lock_status = 'PENDING'
    JOIN performance_schema.metadata_locks AS held
        ON held.object_type = wanted.object_type AND held.object_schema = wanted.object_schema
        AND held.object_name = wanted.object_name AND held.lock_status = 'GRANTED'
        AND held.owner_thread_id <> own.thread_id
    JOIN performance_schema.threads AS others ON others.thread_id = held.owner_thread_id
    WHERE own.processlist_id = :session AND others.processlist_id IS NOT NULL
    """
)
"""Who holds what a session waits for; empty where the server keeps no account of it.

https://mariadb.com/kb/en/performance-schema-metadata_locks-table/
"""
TRANSACTIONS: Final = sa.text(
    """
    SELECT others.id, others.user, others.command,
        timestampadd(SECOND, timestampdiff(SECOND, now(), utc_timestamp()), trx.trx_started),
        others.info
    FROM information_schema.processlist AS own
    JOIN information_schema.innodb_trx AS trx
    JOIN information_schema.processlist AS others ON others.id = trx.trx_mysql_thread_id
    WHERE own.id = :session AND own.state LIKE 'Waiting for table metadata lock%'
      AND others.id <> own.id AND others.db = own.db
      AND coalesce(others.state, '') NOT LIKE 'Waiting for table metadata lock%'
    ORDER BY trx.trx_started LIMIT 10
    """
)
"""Who is in a transaction while a session waits for a table, and may have used that.

https://mariadb.com/kb/en/information-schema-innodb_trx-table/
"""

"""The keys of the locks on a server, and how the session that holds one says who it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from orchestrator.databases.telling import read_told
from orchestrator.results import Holder

NAMESPACE: Final = -1187754793
"""The first key of ours, from the project's name."""
LEADER: Final = 1
"""The lock that elects who leads, on a connection of its own."""
FENCE: Final = 2
"""The one that the work itself holds, on `env.py`'s connection."""

_NAME_BYTES: Final = 63
"""As much of an `application_name` as the server keeps."""
_NAMED: Final = re.compile(r"orchestrator (\w+) (\d+) ([0-9a-f]+) (.*)")
HOLDER: Final = """
    SELECT a.application_name, a.query
    FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.classid::bigint = %s AND l.objid IN (%s, %s)
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    ORDER BY l.objid
"""

HELD: Final = (NAMESPACE % 2**32, LEADER, FENCE)
"""The parameters of that query."""


def session_name(holder: Holder) -> str:
    """What the session is called, where everybody may read it; a long name of a host is cut.

    Run, pid, since when in seconds as a hexadecimal number, host.
    """
    since = int(holder.since.timestamp())
    whole = f"orchestrator {holder.run_id[:12]} {holder.pid} {since:x} {holder.host}"
    return whole.encode("ascii", "replace")[:_NAME_BYTES].decode()


def read_holder(name: str, query: str) -> Holder | None:
    """Who a session of ours says that it is; None of any other."""
    told = read_told(query)
    if told is not None:
        return told
    named = _NAMED.fullmatch(name)
    if named is None:
        return None
    run_id, pid, seconds, host = named.groups()
    began = datetime.fromtimestamp(int(seconds, 16), UTC)
    return Holder(run_id=run_id, host=host, pid=int(pid), command="?", since=began)

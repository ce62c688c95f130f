"""The names of our locks on a server, which has them for all of its databases.

Computed there, from the database's name as it spells it. Up to 64 characters are safe.
"""

from __future__ import annotations

from typing import Final


def _named(purpose: str) -> str:
    return f"CONCAT('orchestrator {purpose} ', SHA1(DATABASE()))"


LEADER: Final = _named("leader")
"""The lock that elects who leads, on a connection of its own."""
FENCE: Final = _named("fence")
"""The one that the work itself holds, on `env.py`'s connection."""

HOLDER: Final = f"""
    SELECT coalesce(IS_USED_LOCK({LEADER}), IS_USED_LOCK({FENCE})), (
        SELECT max(info) FROM information_schema.processlist
        WHERE left(info, 16) = '/* orchestrator '
          AND locate(concat('/* of ', IS_USED_LOCK({LEADER}), ' */'), info) > 0
    )
"""  # noqa: S608 - nobody else's text
"""The session that leads, or works without leading; and what it tells of itself."""

"""What a run works with: by what its settings are compared with another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.run.resources import Resources
from orchestrator.settings import Settings

URL = "postgresql://app:one@db.example/app?application_name=x&sslkey=a"
OTHER: dict[str, Any] = {
    "database_url": URL.replace("example", "test"),
    "direct_url": URL.replace("example", "direct"),
    "script_location": "other",
    "version_locations": ("other",),
    "alembic_config": Path("other.ini"),
    "alembic_section": "other",
    "target": "r1",
    "mode": "follow",
    "bootstrap": "create",
    "unversioned": "adopt",
    "unrecognised": "accept",
    "interrupted": "retry",
    "galera": "one-node",
    "on_peer_failure": "retry",
    "transaction": "off",
    "state_dir": Path("other"),
    "x_args": ("tenant=b",),
    "tag": "other",
    "warm_start": "off",
    "release": "other",
}
WITHOUT_EFFECT: dict[str, Any] = {
    "app": "main:app",
    "lock_timeout_seconds": 1,
    "connect_timeout_seconds": 1,
    "ddl_lock_timeout_seconds": 1,
    "ddl_retry_seconds": 1,
    "journal": "off",
    "journal_max_bytes": 0,
    "log": "off",
    "telemetry": "otel",
    "accepted_differences": "accepted.txt",
}


def digest_of(attributes: dict[str, Any] | None = None, **changes: Any) -> str | None:
    settings = Settings(**{"database_url": URL, **changes})
    return Resources(settings, attributes or {}).settings_digest


class TestSettingsDigest:
    """Two runs do the same work if the digests of their settings are equal."""

    def test_of_the_same_settings(self) -> None:
        """They are equal, in whatever process they are made."""
        assert digest_of() == digest_of()

    @pytest.mark.parametrize("name", Settings.model_fields)
    def test_of_another_setting(self, name: str) -> None:
        """Every setting counts, but those that say how long to wait and whom to tell."""
        if name in WITHOUT_EFFECT:
            assert digest_of(**{name: WITHOUT_EFFECT[name]}) == digest_of()
        else:
            assert digest_of(**{name: OTHER[name]}) != digest_of()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"database_url": URL.replace("one", "two")}),
            ({}, {"database_url": URL.replace("sslkey=a", "sslkey=b")}),
            ({"x_args": ["password=one"]}, {"x_args": ["password=two"]}),
            ({"x_args": ["from=my://u:one@h/d"]}, {"x_args": ["from=my://u:two@h/d"]}),
        ],
    )
    def test_of_another_secret(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """What is secret is no part of it, so that nobody can try which secret it was made of."""
        assert digest_of(**one) == digest_of(**other)

    def test_of_another_argument(self) -> None:
        """What is not secret counts beside what is."""
        one, other = ({"x_args": [f"password=x{end}", f"tenant={end}"]} for end in "ab")
        assert digest_of(**one) != digest_of(**other)
        assert digest_of(x_args=["a=b", "c=d"]) != digest_of(x_args=["c=d", "a=b"])

    def test_of_attributes(self) -> None:
        """Texts and numbers count; where one is an object, nothing can be compared."""
        assert digest_of({"tenant": "a"}) == digest_of({"tenant": "a"}) != digest_of()
        assert digest_of({"tenant": "a"}) != digest_of({"tenant": "b"})
        assert digest_of({"password": "a"}) == digest_of({"password": "b"})
        assert digest_of({"connection": object()}) is None

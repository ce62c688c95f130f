"""The page for the people who look while it happens: one file, with all that it needs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

_HTML: Final = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def _digest(tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", _HTML, re.DOTALL)
    text = found[1] if found is not None else ""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


HEADERS: Final = (
    (
        b"content-security-policy",
        (
            f"default-src 'none'; script-src 'sha256-{_digest('script')}'; "
            f"style-src 'sha256-{_digest('style')}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ).encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Nothing but what the file has itself is executed, shown or asked."""


def of(values: Mapping[str, Any], endpoint: str, token: str) -> bytes:
    """The page as it is at first; it asks `endpoint` how it goes on, or its own address.

    The `token` is for what may be asked for there, if anything.
    """
    # In a script of data, only what looks like the end of it has to be kept from being that.
    data = json.dumps({"endpoint": endpoint, "told": values, "token": token}).replace(
        "<", "\\u003c"
    )
    parts = {
        "TITLE": html.escape(values["title"]),
        "MESSAGE": html.escape(values["message"]),
        "STATUS": html.escape(values["status"]),
        "DATA": data,
    }
    return re.sub(r"%([A-Z]+)%", lambda found: parts[found[1]], _HTML).encode()

r"""Secrets in the texts of drivers and scripts: found by where they stand, or known and looked for.

By where they stand, always, of whatever database: the password and the secret parameters of all
that reads like a URL, and the value of `password=…`, `PWD=…;`, `'token': '…'`, `PASSWORD '…'`
and the like. Where its end is not certain, too much is hidden and not too little.

Known ones, those of the run's own URL, are looked for as tokens, however they are escaped. A
token is an occurrence that cuts no word (letters, digits and `_`) of the text in two: `s` is none
in `postgres`, and is one in `user 's'`, `u:s@h`, `%3As` and `\ns`, where an escape ends. What lies
in a part of the URL that is shown anyway is left: `example` in `db.example.com`.

A long one is hidden where it stands. To hide a short one, or a plain word, would show it: who
knows the message sees what is missing. A text with such a token is not quoted at all.

Pure: nothing here opens a file or a connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final
from urllib.parse import unquote_plus

HIDDEN: Final = "***"

_LENGTH: Final = 8
"""How many characters make a secret long."""
_DEPTH: Final = 3
"""How deep URLs and connection strings are looked for in the parameters of one another."""

# Texts: `re` compiles and keeps them when they are first used, which is not in a warm start.
_PARAMETER_NAME: Final = r"(?i)pass|pwd|secret|token|credential|key$|(?:^|[^a-z])pw$"
_CLOSING: Final = r"""["'](?:[\s,;)\]}]|$)"""
"""A quote that ends what was quoted, and is not in the middle of an unquoted secret."""

_USER: Final = r"""(?<![\w+.-])(?P<scheme>\w[\w+.-]{0,40}):/{1,2}(?![/[])[^\s:@"']*:"""
_WEB: Final = ("http", "https", "ws", "wss")
_PORT: Final = r"\d{1,5}(?![^\s/?#\"',.;)\]}>])"
_PARAMETER: Final = rf"(?m)[?&](?P<name>[^=&?\s]+)=(?!\*\*\*)(?P<value>(?:(?!{_CLOSING})[^&\s])+)"

_WORD: Final = r"(?:passw(?:or[dt])?|passwd|passphrase|pwd)"
_NAME: Final = rf"""(?xi)
    (?: (?P<list>;)\ * | (?<![\w?&]) )
    (?: (?: \w*(?:{_WORD}|secret|token|credentials?|(?:api|access|private)[_-]?key)
          | (?:\w*_)?(?:pass|pw) )
        (?: (?:\\*["'])?[ \t]*(?:=>|==?|(?P<escape>%3D))[ \t]*
          | \\*["']\s*:\s*(?=[bruf]?\\*["']|[-\d]) )
        (?!\*\*\*|(?-i:None|null|True|False)\b)
      # A quoted value needs no sign before it. Alembic has "revision identified by 'x'".
      | (?:\w*{_WORD}|(?<!revision\ )identified\s+by) (?:\s*:\s*|\s+) (?=\\*["']) )
"""
_QUOTED: Final = r"""(?xim)
    [bruf]{0,2}(?P<quote>["']) (?P<quoted>(?: \\. | (?P=quote){2} | (?!(?P=quote))[^\n] )*)
  | (?P<escaped>\\+["']) (?P<within>[^\n]*?) (?=(?<!\\)(?P=escaped)|$)
  | \{ (?P<braced>(?: \}\} | [^}\n] )*)
"""
_VALUE: Final = rf"""{_QUOTED}
  | (?P<first>(?: (?!{_CLOSING})[^;=\n] )*) (?=;[\w ]+=)
  | (?P<bare>(?: (?!{_CLOSING})\S )+)
"""
_ESCAPED: Final = rf"(?m)(?:(?!{_CLOSING})[^&\s])+"
_IN_LIST: Final = rf"""{_QUOTED}
  | (?P<listed>(?: (?!{_CLOSING})[^;\n] )*)
"""
"""In a list of pairs with `;` between them, as ODBC has it, a value may have spaces."""

_BEGINNING: Final = (
    r"(?:(?<!\w)|(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])|(?<=\\x[0-9A-Fa-f]{2})"
    r"|(?<=\\u[0-9A-Fa-f]{4})|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm)|(?<=;\d\dm))"
)
"""Where a word begins: not within another, but perhaps after an escape that ends in a letter."""

# Of as many levels as anybody puts into one another, and no more: a text may have thousands.
_PERCENT: Final = "%(?:25|%){0,4}"
_BACKSLASH: Final = rf"(?:\\|{_PERCENT}5c){{1,8}}"

_Span = tuple[int, int]


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds a secret."""
    return re.search(_PARAMETER_NAME, name) is not None


def redacted(text: str) -> str:
    """The text without what stands in the place of a secret."""
    # A warm start shows a URL, and has no need of patterns for `timeout=3`.
    if text.isalnum():
        return text
    for _ in range(_DEPTH):
        shown = _without(text, _places(text))
        if shown == text:
            break
        text = shown  # what is left may read like a URL now
    return text


def without_secret(name: str, value: str) -> str:
    """A value of this name, without what the name, or what stands in it, says is secret."""
    if is_secret(name):
        return ""
    return redacted(value) if "://" in value or "=" in value else value


def secrets_in(text: str) -> set[str]:
    """What stands in the place of a secret, as it is written and without its escapes."""
    written = {text[start:end] for start, end in _places(text)}
    return written | {re.sub(r"""[\\}'](?=[\\}'"])""", "", one) for one in written}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Those of one URL, unescaped; `shown` are the parts of it that are shown anyway."""

    known: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()

    def hide(self, text: str) -> str:
        """The text without all that can be hidden in it. For tracebacks: most of one is code."""
        return _without(text, self._found(text)[0])

    def quote(self, text: str) -> str | None:
        """Somebody else's text, without secrets; None where one stands in it all the same."""
        hidden, left = self._found(text)
        return None if left else _without(text, hidden)

    def _found(self, text: str) -> tuple[list[_Span], list[_Span]]:
        """What can be hidden in a text, and the secrets that cannot."""
        places = list(_places(text))
        kept = [*places, *(span for part in self.shown for span in _tokens(part, text))]
        hidden: list[_Span] = places
        left: list[_Span] = []
        for secret in self.known:
            for start, end in _tokens(secret, text):
                if not any(first <= start and end <= last for first, last in kept):
                    (hidden if _can_be_hidden(secret) else left).append((start, end))
        return hidden, left


NO_SECRETS: Final = Secrets()
"""What is known where no URL is."""


def _can_be_hidden(secret: str) -> bool:
    plain = re.fullmatch(r"(?:[^\W\d]|[ .'-])*", secret)
    return len(secret) >= _LENGTH and not plain


def _places(text: str, depth: int = _DEPTH) -> Iterator[_Span]:
    """Where something stands in the place of a secret."""
    for user in re.finditer(_USER, text):
        yield from _password(text, user.end(), web=user["scheme"].lower() in _WEB)
    for parameter in re.finditer(_PARAMETER, text):
        value = unquote_plus(parameter["value"])
        nested = depth > 0 and next(_places(value, depth - 1), None)
        if nested or is_secret(unquote_plus(parameter["name"])):
            yield parameter.span("value")
    yield from _values(text)


def _values(text: str) -> Iterator[_Span]:
    """Where the values of pairs lie; what is within one is not looked at again."""
    end = 0
    while name := re.compile(_NAME).search(text, end):
        pattern = _IN_LIST if name["list"] else _ESCAPED if name["escape"] else _VALUE
        value = re.compile(pattern).match(text, name.end())
        end = name.end() if value is None else value.end()
        if value is not None:
            yield value.span(value.lastgroup or 0)


def _password(text: str, start: int, *, web: bool) -> Iterator[_Span]:
    """Where the password lies that may begin here, after `scheme://user:`.

    In a URL of the web it ends before the path. Elsewhere anything may be unescaped in it, and
    the host may have been forgotten; a number is a port then, for all that anybody can tell.
    """
    if text.startswith(f"{HIDDEN}@", start):
        return
    token = _match(r"[^\s/?#]{0,4096}" if web else r"\S{0,4096}", text, start)
    if "@" in token:
        yield start, start + token.rindex("@")
    elif not web and not re.match(_PORT, token):
        line = _match(r"""[^\n@"']{0,200}(?=@)""", text, start)
        word = _match(rf"(?m)(?:(?!{_CLOSING})\S){{0,4096}}", text, start)
        yield start, start + len(line or word)


def _match(pattern: str, text: str, start: int) -> str:
    found = re.compile(pattern).match(text, start)
    return found.group() if found is not None else ""


def _tokens(secret: str, text: str) -> Iterator[_Span]:
    """Where a secret stands in a text as a token, in whatever spelling."""
    return (found.span() for found in re.finditer(_spelled(secret), text))


@lru_cache(maxsize=64)
def _spelled(secret: str) -> str:
    r"""A pattern for a secret as a token: each character as it is, or escaped in some way.

    For a URL (`%41`, `+`), for a config (`%%`), for a URL within a URL (`%2541`), by `repr` and
    JSON (`\'`, `\x41`, `\u0041`), once or several times; doubled as SQL has it.
    """
    units = "".join(_unit(char, len(list(run))) for char, run in groupby(secret))
    begins = _BEGINNING if re.match(r"\w", secret) else ""
    return begins + units + (r"(?!\w)" if re.search(r"\w\Z", secret) else "")


def _unit(char: str, times: int) -> str:
    """A character, this many times in a row."""
    if char == "%":
        return f"%(?:25|%){{{times - 1},{4 * times}}}"
    if char == "\\":
        return f"(?i:{_BACKSLASH}){{{times}}}"
    octets = char.encode("utf-8", "surrogatepass")
    percent = "".join(f"{_PERCENT}{octet:02x}" for octet in octets)
    escapes = [
        percent,
        "".join(f"{_BACKSLASH}x{octet:02x}" for octet in octets),
        f"{_BACKSLASH}x{ord(char):02x}",
        f"{_BACKSLASH}u{ord(char):04x}",
        f"{_BACKSLASH}U{ord(char):08x}",
    ]
    by_json = json.dumps(char)[1:-1]
    if by_json.startswith("\\"):
        escapes.append(by_json.replace("\\", _BACKSLASH))
    if char == " ":
        escapes += [r"\+", f"{_PERCENT}2b"]
    if not char.isalnum():
        escapes.append(f"{_BACKSLASH}(?:{re.escape(char)}|{percent})")
    most = 2 * times if char in "'\"}$" else times
    return f"(?:{re.escape(char)}|(?i:{'|'.join(escapes)})){{{times},{most}}}"


def _without(text: str, spans: Iterable[_Span]) -> str:
    """The text with each span hidden; those that overlap as one."""
    shown, end = [], 0
    for start, until in sorted(span for span in spans if span[0] < span[1]):
        if start >= end:
            shown += [text[end:start], HIDDEN]
        end = max(end, until)
    return "".join([*shown, text[end:]])

"""The picture of a start as a file of its own: SVG or HTML, without anything from a network."""

from __future__ import annotations

import io
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from orchestrator.cli.logs.picture import picture
from orchestrator.timeline.starts import Start
from orchestrator.timeline.wording import short

WIDTH: Final = 112
"""Columns of an exported picture."""

_THEME: Final = TerminalTheme(
    background=(24, 26, 33),
    foreground=(214, 218, 228),
    normal=[
        (24, 26, 33),
        (240, 98, 106),
        (87, 178, 114),
        (222, 170, 74),
        (61, 110, 214),
        (196, 118, 210),
        (54, 164, 188),
        (214, 218, 228),
    ],
    bright=[
        (122, 130, 148),
        (240, 98, 106),
        (87, 178, 114),
        (222, 170, 74),
        (61, 110, 214),
        (196, 118, 210),
        (54, 164, 188),
        (255, 255, 255),
    ],
)
_FONTS: Final = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"

_HTML: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Start of a database</title>
<style>
body {{ margin: 0; padding: 2rem; color: {foreground}; background: {background}; }}
pre {{ margin: 0; overflow-x: auto; font: 15px/1.35 FONTS; }}
code {{ font: inherit; }}
{stylesheet}
</style>
</head>
<body>
<pre><code>{code}</code></pre>
</body>
</html>
""".replace("FONTS", _FONTS)

_SVG: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: FONTS;
  font-size: {char_height}px;
  line-height: {line_height}px;
  white-space: pre;
}}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("FONTS", _FONTS)


def to_svg(start: Start) -> str:
    """The picture as an SVG document."""
    return _recorded(start).export_svg(
        title=f"orchestrator logs timeline {short(start.start_id)}",
        theme=_THEME,
        code_format=_SVG,
        unique_id="start",
    )


def to_html(start: Start) -> str:
    """The picture as an HTML document."""
    return _recorded(start).export_html(theme=_THEME, code_format=_HTML)


def _recorded(start: Start) -> Console:
    console = Console(
        record=True,
        file=io.StringIO(),
        width=WIDTH,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,  # NO_COLOR is about terminals
        legacy_windows=False,
        highlight=False,
    )
    for line in picture(start, WIDTH):
        console.print(line or Text(" "), no_wrap=True)
    return console

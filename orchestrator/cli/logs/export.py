"""The picture of a start as a file of its own: SVG or HTML, without anything from a network.

Its colours are those that the reader's system asks for, light or dark.
"""

from __future__ import annotations

from html import escape
from typing import Final

from orchestrator.cli.logs import captions
from orchestrator.cli.logs.drawing import Drawing
from orchestrator.timeline.starts import Start

_LIGHT: Final = {
    "paper": "#ffffff",
    "edge": "#d0d7de",
    "text": "#1f2328",
    "faint": "#59636e",
    "looking": "#818b98",
    "waiting": "#9a6700",
    "migrating": "#0969da",
    "next": "#8250df",
    "ready": "#1a7f37",
    "failed": "#cf222e",
    "cancelled": "#bf3989",
    "unfinished": "#bf3989",
}
_DARK: Final = {
    "paper": "#0d1117",
    "edge": "#3d444d",
    "text": "#f0f6fc",
    "faint": "#9198a1",
    "looking": "#9198a1",
    "waiting": "#d29922",
    "migrating": "#1f6feb",
    "next": "#8957e5",
    "ready": "#3fb950",
    "failed": "#f85149",
    "cancelled": "#db61a2",
    "unfinished": "#db61a2",
}


def _colours(colours: dict[str, str]) -> str:
    return " ".join(
        f".f-{name} {{ fill: {colour} }} .s-{name} {{ stroke: {colour} }}"
        for name, colour in colours.items()
    )


_STYLE: Final = f"""\
text {{ font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace;
  white-space: pre }}
.b {{ font-weight: bold }} .l {{ font-size: 12px; font-weight: bold; fill: #ffffff }}
.end {{ text-anchor: end }} .mid {{ text-anchor: middle }}
.looking {{ stroke-width: 2; stroke-dasharray: 2 4 }}
.waiting {{ stroke-width: 3; stroke-dasharray: 7 4 }}
.ready {{ stroke-width: 5 }}
{_colours(_LIGHT)}
@media (prefers-color-scheme: dark) {{ {_colours(_DARK)} }}
"""

_HTML: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 1rem; background: {light}; }}
svg {{ display: block; max-width: 100%; height: auto; margin: auto; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark}; }} }}
</style>
</head>
<body>
{svg}</body>
</html>
"""


def to_svg(start: Start) -> str:
    """The picture as an SVG document."""
    drawing = Drawing(start)
    width, height = round(drawing.width), round(drawing.height)
    summary = escape("; ".join(captions.summary(start)))
    shapes = "\n".join(drawing.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{summary}">\n'
        f"<style>\n{_STYLE}</style>\n"
        f'<rect class="f-paper s-edge" x="0.5" y="0.5" width="{width - 1}" '
        f'height="{height - 1}" rx="8"/>\n{shapes}\n</svg>\n'
    )


def to_html(start: Start) -> str:
    """The picture as an HTML document."""
    title, _ = captions.heading(start)
    light, dark = _LIGHT["paper"], _DARK["paper"]
    return _HTML.format(title=escape(title), light=light, dark=dark, svg=to_svg(start))

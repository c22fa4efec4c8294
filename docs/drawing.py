"""Drawings as SVG, with a background of their own, which follow the reader's light or dark scheme."""

from __future__ import annotations

from html import escape

#: Colours by class: of light schemes, then of dark ones.
_COLOURS = {
    "card": ("#ffffff", "#15191f"),
    "box": ("#eef2f7", "#262d37"),
    "one": ("#d7e6fb", "#1f3d63"),
    "two": ("#fde3cf", "#5c3a1e"),
    "three": ("#dcefd9", "#24482a"),
    "four": ("#ecdff6", "#46305a"),
    "wait": ("#f6dc7c", "#7d661c"),
    "late": ("#c0392b", "#ff7a6b"),
}
_INK = ("#1c2733", "#e4e9ef")
_FAINT = ("#5b6875", "#a5b0bc")


def _style() -> str:
    def rules(scheme: int) -> str:
        fills = "".join(f".{name}{{fill:{pair[scheme]}}}" for name, pair in _COLOURS.items())
        ink, faint = _INK[scheme], _FAINT[scheme]
        return (
            f"{fills}text{{fill:{ink}}}.faint{{fill:{faint}}}"
            f".line{{stroke:{faint}}}.head{{fill:{faint}}}.border{{stroke:{faint}}}"
        )

    return (
        "<style>text{font:14px system-ui,sans-serif}.small{font-size:12px}.bold{font-weight:600}"
        ".line{fill:none;stroke-width:1.5}.border{stroke-width:1}.dashed{stroke-dasharray:5 4}"
        f"{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}</style>"
    )


class Drawing:
    """A drawing of ``width`` x ``height``, to which shapes are added in order."""

    def __init__(self, width: int, height: int, title: str):
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Writes one line; ``y`` is its middle."""
        self._parts.append(
            f'<text x="{x:g}" y="{y + 5:g}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        kind: str = "box",
        more: str = "",
    ) -> None:
        """Draws a box with up to two lines in its middle."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="border {kind}"/>'
        )
        middle = y + height / 2
        if words:
            self.text(x + width / 2, middle - (9 if more else 0), words)
        if more:
            self.text(x + width / 2, middle + 10, more, "small faint")

    def cell(self, x: float, y: float, width: float, height: float, kind: str, opacity: float = 1.0) -> None:
        """Draws a box without border."""
        faint = "" if opacity == 1 else f' opacity="{opacity:.2g}"'
        self._parts.append(
            f'<rect x="{x:.5g}" y="{y:g}" width="{width:.4g}" height="{height:g}" class="{kind}"{faint}/>'
        )

    def line(self, points: list[tuple[float, float]], kind: str = "", arrow: bool = True) -> None:
        """Draws a line through ``points``, with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        head = ' marker-end="url(#head)"' if arrow else ""
        self._parts.append(f'<polyline points="{path}" class="line {kind}"{head}/>')

    def svg(self) -> str:
        """The text of the file."""
        width, height = self._size
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0,0L8,4L0,8z" class="head"/></marker></defs>'
        )
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img"><title>{escape(self._title)}</title>\n'
            f'{_style()}{head}\n<rect width="{width}" height="{height}" rx="10" class="card"/>\n'
            f"{body}\n</svg>\n"
        )

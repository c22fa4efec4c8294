"""A Sphinx extension: what reference pages show of the code, read from the code when the site is built.

``settings-table`` is a table of the environment variables.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from distopt.settings import Settings


def settings_rows() -> list[tuple[str, str, str]]:
    """Name, default and meaning of each environment variable, by the docstring of ``Settings``."""
    _, _, attributes = (Settings.__doc__ or "").partition("Attributes:\n")
    said = dict(re.findall(r"^ +(\w+): (.*(?:\n {12,}.*)*)", attributes, re.MULTILINE))
    rows = []
    for field in dataclasses.fields(Settings):
        default = int(field.default) if isinstance(field.default, bool) else field.default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        rows.append(("DISTOPT_" + field.name.upper(), shown, " ".join(said[field.name].split())))
    return rows


class SettingsTable(SphinxDirective):
    """The table of the environment variables."""

    def run(self) -> list[nodes.Node]:
        """Returns the table."""
        lines = ["| variable | default | meaning |", "|---|---|---|"]
        for name, default, meaning in settings_rows():
            lines.append(
                f"| `{name}` | {f'`{default}`' if default else ''} | {meaning.replace('|', chr(92) + '|')} |"
            )
        node = nodes.container()
        self.state.nested_parse(StringList(lines, "settings"), self.content_offset, node)
        return node.children


def link_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Marks links to files of the repository that are not pages, for ``myst_url_schemes``."""
    folder = (app.srcdir / page).parent

    def link(found: re.Match[str]) -> str:
        target = (folder / found[1]).resolve()
        if target.is_relative_to(app.srcdir) or not target.exists():
            return found[0]
        return f"](repository:{target.relative_to(Path(app.srcdir).parent).as_posix()})"

    source[0] = re.sub(r"\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)", link, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives and the links."""
    app.connect("source-read", link_repository)
    app.add_directive("settings-table", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Writes docs/reference/errors.md: runs the programs of error_cases/, and records the error of each.

python docs/errors.py writes the page; tests/test_errors_page.py compares it.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

from distopt_launch import cli
from distopt_launch.program import Program, load
from error_cases import GROUPS, Case

from distopt.testing.inprocess import run_script

_DOCS = Path(__file__).parent
PAGE = _DOCS / "reference" / "errors.md"
#: Characters of a message that the page shows.
_SHOWN = 180
#: Lines of it.
_LINES = 3

_HEAD = """\
# Errors

This page lists common errors, why they happen, and what to do. It shows the beginning of each message. The
full message also shows the line of your program. `...` marks what differs from run to run.

If one replica fails, only its error is shown, not what follows from it on the other replicas.
[Debugging](debugging.md#what-the-errors-say) explains messages about several replicas and the settings that
give more detail.

`docs/errors.py` writes this page: it provokes each error.
"""


def output_of(case: Case) -> tuple[int, str]:
    """Runs a case in this process: its exit code, and what it wrote."""
    written = io.StringIO()
    if case.needs:
        import_module(case.needs)  # before the modules are noted: some cannot be loaded twice
    before, path, modules = os.getcwd(), sys.path[:], dict(sys.modules)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        Path("train.py").write_text(case.source)
        Path("broken.py").write_text("x = = 1\n")
        os.environ.update(case.environ)
        try:
            with redirect_stderr(written), redirect_stdout(written):
                code = _run(case)
        finally:
            os.chdir(before)
            for name in case.environ:
                del os.environ[name]
            sys.path[:] = path
            for name in [name for name, module in sys.modules.items() if module is None]:
                del sys.modules[name]
            sys.modules.update(modules)
        return code, written.getvalue().replace(os.path.realpath(folder), "/home/you")


def _run(case: Case) -> int:
    if case.argv:
        try:
            return cli.main(case.argv)
        except SystemExit as leaving:  # of argparse
            return int(leaving.code or 0)
    return run_script(load(Program("train.py")), case.replicas)


def message(output: str) -> list[str]:
    """The lines of the error in ``output``: what follows the last traceback, if there is one."""
    lines = [re.sub(r"^\[\d+\] ", "", line) for line in output.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last):")]
    first = next(
        i for i, line in enumerate(lines) if i > (starts or [-1])[-1] and not line.startswith((" ", "("))
    )
    return lines[first:]


def shown(case: Case) -> str:
    """The message as the page shows it."""
    lines = [case.shown] if case.shown else message(output_of(case)[1])
    return "<br>".join(map(_as_code, lines[:_LINES]))


def _as_code(line: str) -> str:
    """A line without what differs from run to run, not too long, in Markdown."""
    text = re.sub(r"checksum \w+|0x[0-9a-f]+", "...", line.strip()).replace("distopt.errors.", "")
    if len(text) > _SHOWN:
        text = text[:_SHOWN].rsplit(" ", 1)[0] + " ..."
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def row(case: Case) -> str:
    """The case's line of the page."""
    return f"| {shown(case)} | {_linked(case.why)} | {_linked(case.cure)} |\n"


def _linked(text: str) -> str:
    """``text`` with links that start at the page: cases name other pages by their file alone."""

    def link(found: re.Match[str]) -> str:
        (target,) = _DOCS.rglob(found[1])
        return f"]({Path(os.path.relpath(target, PAGE.parent)).as_posix()}"

    return re.sub(r"\]\(([\w-]+\.md)", link, text)


def page() -> str:
    """The text of the page."""
    parts = [_linked(_HEAD)]
    for heading, cases in GROUPS.items():
        parts.append(f"\n## {heading}\n\n| error | why | what to do |\n|---|---|---|\n")
        parts.extend(map(row, cases))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

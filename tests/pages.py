"""The code blocks of a Markdown page, and running them as a reader would, one after the other."""

import doctest
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: All pages, as paths in the repository.
PAGES = [
    *sorted(path.name for path in ROOT.glob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language="python"):
    """``(line, text)`` of each fenced block of that language in ``page``, a path in the repository."""
    text = (ROOT / page).read_text()
    found = [m for m in _FENCE.finditer(text) if m.group(1) == language]
    return [(text.count("\n", 0, m.start()) + 2, textwrap.dedent(m.group(2))) for m in found]


def run(page, line, text, names):
    """Runs one block: as a dialogue where it has prompts, comparing what is shown; else as a program."""
    if ">>>" not in text:
        exec(compile("\n" * (line - 1) + text, str(ROOT / page), "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(text, names, f"{page}:{line}", str(ROOT / page), line - 1)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    failed = runner.run(test, out=report.append, clear_globs=False).failed
    names.update(test.globs)
    assert failed == 0, "".join(report)


def run_page(page):
    """Runs all blocks of a page in one namespace, which it returns."""
    names = {"__name__": "page"}
    for line, text in blocks(page):
        run(page, line, text, names)
    return names

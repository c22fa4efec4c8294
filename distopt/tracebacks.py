"""Tracebacks as their reader needs them: the program's own lines, without those inside distopt."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from functools import cache
from traceback import FrameSummary, StackSummary, TracebackException, extract_tb
from types import TracebackType

from distopt.settings import settings

__all__ = ["format_error", "is_between", "is_internal", "located", "place_of", "report_error"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARIES = tuple(
    path + os.sep
    for path in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)


@cache
def is_internal(file: str) -> bool:
    """Whether a file of source code is one of distopt."""
    return file.startswith(_PACKAGE)


@cache
def is_between(file: str) -> bool:
    """Whether a file's code stands between programs and distopt: PyTorch wraps steps, contextlib blocks."""
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    return file == contextlib.__file__ or bool(torch and file.startswith(os.path.dirname(torch) + os.sep))


# -- places
def place_of(trace: TracebackType | None) -> str:
    """The last line of the program in a traceback, "train.py:12"; empty if there is none."""
    kept = _kept(extract_tb(trace))
    return located("", kept[-1].filename, kept[-1].lineno or 0)[1] if kept else ""


@cache
def located(function: str, file: str, line: int) -> tuple[str, str]:
    """A function's name, empty for a private one, and a place: "train.py:12", "cell In[3], line 12"."""
    function = "" if function.startswith(("_", "<")) else function
    cell = _cell(file)
    return function, f"cell {cell}, line {line}" if cell else f"{os.path.basename(file)}:{line}"


def _cell(file: str) -> str:
    """``"In[3]"`` of a file that IPython made for a cell; empty for others."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    name = shell.compile.format_code_name(file) if shell is not None else None
    return str(name[1]) if name else ""


# -- tracebacks
def format_error(error: BaseException, trace: TracebackType | None = None) -> str:
    """``error`` with its traceback, and those of its causes, as Python would print them.

    Frames inside distopt are left out, and so are those of libraries that it called, as long as none of the
    program's own follows. ``DISTOPT_DEBUG=1`` leaves all in.

    Args:
        error: the exception.
        trace: the part of its traceback to show, if not all.

    Returns:
        lines, each with its end; the error comes last.
    """
    return _formatted(error, trace)[0]


def report_error(error: BaseException, trace: TracebackType | None = None, title: str = "") -> None:
    """Writes :func:`format_error` to the error output, after a line that says how to see the whole.

    Args:
        error: the exception.
        trace: the part of its traceback to show, if not all.
        title: a line before it.
    """
    lines, hidden = _formatted(error, trace)
    if hidden:
        frames = "frame" if hidden == 1 else "frames"
        lines = f"({hidden} {frames} inside distopt left out; DISTOPT_DEBUG=1 shows them)\n{lines}"
    if title:
        lines = f"{title}\n{lines}"
    sys.stderr.write(lines)
    sys.stderr.flush()


def _formatted(error: BaseException, trace: TracebackType | None) -> tuple[str, int]:
    whole = _whole()
    text = TracebackException(type(error), error, error.__traceback__ if whole or trace is None else trace)
    hidden = 0 if whole else _shorten(text, set())
    return "".join(text.format()), hidden


def _whole() -> bool:
    try:
        return settings().debug
    except ValueError:  # a wrong variable, which may be the very error that is to be shown
        return False


def _shorten(text: TracebackException | None, seen: set[int]) -> int:
    """Leaves frames out, in causes too; returns how many."""
    if text is None or id(text) in seen:
        return 0
    seen.add(id(text))
    kept = _kept(text.stack)
    hidden = len(text.stack) - len(kept)
    text.stack = StackSummary.from_list(kept) if kept else None  # type: ignore[assignment]
    members = getattr(text, "exceptions", None) or ()  # those of an exception group
    return hidden + sum(_shorten(other, seen) for other in (text.__cause__, text.__context__, *members))


def _kept(stack: StackSummary) -> list[FrameSummary]:
    kept: list[FrameSummary] = []
    inside = False
    for frame in stack:
        if is_internal(frame.filename):
            inside = True
            while kept and is_between(kept[-1].filename):
                kept.pop()
        elif not (inside and _is_library(frame.filename)):
            kept.append(frame)
            inside = False
    return kept


@cache
def _is_library(file: str) -> bool:
    return file.startswith((*_LIBRARIES, "<frozen")) or file == "<__array_function__ internals>"

"""Command lines that start Python by file path, since ``-m`` and ``-c`` import from the working directory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

#: The script that runs an installed module, whatever the working directory contains. See `start`.
START = str(Path(__file__).with_name("start.py"))

#: Python's options that are passed on to replicas; the last two take a value.
_PASSED_ON = "bBdEIOPRsSuvWX"


def running(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that calls ``main()`` of an installed module."""
    return (sys.executable, *options(sys.orig_argv), START, module, *arguments)


def options(argv: Sequence[str]) -> list[str]:
    """The options before ``-m`` in ``python -X dev -m distopt_launch``, for the replicas.

    Options in the first line of an installed script come from its installer, not the user, and are dropped.
    """
    found: list[str] = []
    at = 1
    while at < len(argv) and argv[at].startswith("-") and not argv[at].startswith("--"):
        word = argv[at][1:]
        at += 1
        while word:
            letter, word = word[0], word[1:]
            if letter == "m":
                return found
            value = ""
            if letter in "WX":
                value, word = word, ""
                if not value and at < len(argv):
                    value = argv[at]
                    at += 1
            if letter in _PASSED_ON:
                found.append(f"-{letter}{value}")
    return []


def keeps_path() -> bool:
    """Whether Python was told not to put the program's folder on ``sys.path`` (``-P``, ``-I``)."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))

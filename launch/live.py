"""``--live``: what a running job does, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def run_live(words: Sequence[str]) -> int:
    """Shows it."""
    return 0

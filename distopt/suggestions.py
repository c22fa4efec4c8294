"""What an unknown word was meant to be: the known word that is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``; differences in case and underscores do not count."""
    names = list(known)
    plain = {_plain(other): other for other in names}
    near = difflib.get_close_matches(name, names, n=1)
    if _plain(name) in plain or not near:
        near = [plain[other] for other in difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)]
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'relu'?"`` to go on with in an error text, or nothing if no known name is near."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


def _plain(name: str) -> str:
    return name.replace("_", "").lower()

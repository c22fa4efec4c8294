"""Constructor keywords and names that all optimizers share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["check_keywords", "clip_config", "snake_case_name"]

_KEYWORDS = ("clipnorm", "clipvalue", "decay", "global_clipnorm", "lr")

_names_given: Counter[str] = Counter()


def check_keywords(keywords: Mapping[str, Any]) -> None:
    """Checks the keyword arguments that every optimizer takes.

    Raises:
        TypeError: an unknown keyword, or ``decay=None``.
        ValueError: a negative number, or both ``clipnorm`` and ``global_clipnorm``.
    """
    for name, value in keywords.items():
        if name not in _KEYWORDS:
            raise TypeError(
                f"Unexpected keyword argument passed to optimizer: {name}. Known besides the optimizer's "
                f"own: {', '.join(_KEYWORDS)}, gradient_aggregator, gradient_transformers"
            )
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"Expected {name} >= 0, received: {value}")
    if "decay" in keywords and keywords["decay"] is None:
        raise TypeError("decay must be a number >= 0, received: None. Leave it out for no decay")
    if keywords.get("clipnorm") is not None and keywords.get("global_clipnorm") is not None:
        raise ValueError(
            f"Cannot accept both `clipnorm` and `global_clipnorm`, received {keywords['clipnorm']} and "
            f"{keywords['global_clipnorm']}: pass one of them"
        )


def clip_config(clips: Mapping[str, float | None]) -> dict[str, float]:
    """Those of the clips that are set."""
    return {name: value for name, value in clips.items() if value is not None}


def snake_case_name(cls: type) -> str:
    """The class's name in snake case, numbered from its second use on: ``sub``, ``sub_1``."""
    spaced = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", cls.__name__)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()
    count = _names_given[name]
    _names_given[name] += 1
    return f"{name}_{count}" if count else name

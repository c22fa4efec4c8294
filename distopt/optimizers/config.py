"""Constructor keywords and names that all optimizers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distopt.core.checks import as_sequence, shown
from distopt.core.keywords import argument_names
from distopt.core.numbers import as_clip, as_number
from distopt.core.registry import snake_case
from distopt.engine.clip import Clip
from distopt.suggestions import did_you_mean
from distopt.typing import Transformer

__all__ = [
    "ClipLimit",
    "check_keywords",
    "check_transformers",
    "clip_config",
    "numbered_name",
]

_CLIPS = frozenset({"clipnorm", "clipvalue", "global_clipnorm"})
_NUMBERS = {*_CLIPS, "decay"}
_KEYWORDS = (
    *("clipnorm", "clipvalue", "decay", "ema_momentum", "ema_overwrite_frequency", "global_clipnorm"),
    *("learning_rate_multiplier", "lr", "on_nonfinite", "use_ema", "weight_decay", "weight_decay_multiplier"),
)

# Process-wide, as in Keras: the second optimizer of a class is "adam_1", wherever it is made.
_names_given: Counter[str] = Counter()


def check_keywords(optimizer: type, keywords: Mapping[str, Any]) -> None:
    """Checks the keyword arguments that every optimizer takes.

    Args:
        optimizer: its class; messages list its constructor arguments too.
        keywords: those that the constructor does not name.

    Raises:
        TypeError: a keyword is unknown, ``decay`` is None, or a value is not a number.
        ValueError: a number is negative, a clip is invalid, or both ``clipnorm`` and ``global_clipnorm`` are
            given.
    """
    for name, value in keywords.items():
        if name not in _KEYWORDS:
            # BaseOptimizer's parameter.
            known = sorted({*argument_names(optimizer), *_KEYWORDS} - {"keywords"})
            raise TypeError(
                f"Unexpected keyword argument passed to optimizer: {name}.{did_you_mean(name, known)} "
                f"Known to {optimizer.__name__}: {', '.join(known)}"
            )
        if name in _NUMBERS:
            check_not_negative_number(name, value, optional=name != "decay")
        elif isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"Expected {name} >= 0, received: {value}")
    if keywords.get("clipnorm") is not None and keywords.get("global_clipnorm") is not None:
        raise ValueError(
            f"Cannot accept both `clipnorm` and `global_clipnorm`, received {keywords['clipnorm']} and "
            f"{keywords['global_clipnorm']}: pass one of them"
        )


def check_not_negative_number(name: str, value: Any, optional: bool) -> None:
    """TypeError if ``value`` is not a number (or None, if ``optional``), ValueError if it is out of range."""
    if optional and value is None:
        return
    if value is None:
        raise TypeError(f"{name} must be a number >= 0, received: None. Omit it to turn it off")
    if as_number(value, name) < 0:
        raise ValueError(f"Expected {name} >= 0, received: {value}")
    if name in _CLIPS:
        as_clip(value, name)


def check_transformers(transformers: Any) -> list[Transformer]:
    """Returns the transformers as a new list.

    Raises:
        TypeError: it is not a list, or an element is not callable.
    """
    found = [] if transformers is None else list(as_sequence(transformers, "gradient_transformers"))
    for transformer in found:
        if not callable(transformer):
            raise TypeError(
                f"gradient_transformers must be functions from pairs to pairs; got {shown(transformer)}"
            )
    return found


class ClipLimit:
    """A descriptor for the limit of one clip of an optimizer, which it checks; None for no clip.

    Args:
        field: the name of the field of :class:`~distopt.engine.clip.Clip` that stores the limit.
    """

    def __init__(self, field: str) -> None:
        self._field = field

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        return self if optimizer is None else getattr(optimizer._clip, self._field, None)

    def __set__(self, optimizer: Any, limit: Any) -> None:
        if limit is not None:
            as_clip(limit, self._name)
        clip = replace(optimizer._clip or Clip(), **{self._field: limit})
        optimizer._clip = None if clip == Clip() else clip


def clip_config(clips: Mapping[str, float | None]) -> dict[str, float]:
    """The clips that are set."""
    return {name: value for name, value in clips.items() if value is not None}


def numbered_name(cls: type) -> str:
    """The class name in snake case, with a number from the second optimizer on: ``adam``, ``adam_1``."""
    name = snake_case(cls.__name__)
    count = _names_given[name]
    _names_given[name] += 1
    return f"{name}_{count}" if count else name

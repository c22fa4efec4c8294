"""The warning of a tape that is asked to watch what has no gradient; once for each, and once a job."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from distopt.core.placement import placement
from distopt.core.variable import Variable

__all__ = ["tell_not_watched"]

_log = logging.getLogger("distopt")


def tell_not_watched(value: Any) -> None:
    """Warns that a variable, tensor or traced value is not watched, having no floating dtype."""
    if placement().chief():
        label = f"variable {value.name!r}" if isinstance(value, Variable) else "a tensor"
        _tell(label, str(value.dtype))


@cache
def _tell(label: str, dtype: str) -> None:
    _log.warning("a tape watches floating values only; %s has dtype %s", label, dtype)

"""Errors for unknown keyword arguments, with a suggestion and a list of the known ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar

from distopt.core.wrappers import named_after
from distopt.suggestions import did_you_mean

__all__ = ["KnownArguments", "argument_names", "check_arguments", "known_arguments", "refuse_unknown"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class KnownArguments:
    """Base of classes whose constructors, and those of subclasses, raise these errors."""

    def __new__(cls: type[_T], *args: Any, **kwargs: Any) -> _T:
        """Checks the names of the arguments against those of ``__init__``."""
        if args and cls.__init__ is object.__init__:  # object ignores arguments if the class has a __new__
            raise TypeError(f"{cls.__name__}() takes no arguments")
        if kwargs:
            check_arguments(cls, cls.__init__, kwargs)
        return super().__new__(cls)  # type: ignore[misc,no-any-return]

    # The signature that inspect and help() show for classes without __init__.
    __new__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [Parameter("cls", Parameter.POSITIONAL_ONLY)]
    )


def known_arguments(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a method that raises these errors."""

    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if kwargs:
            check_arguments(method, method, kwargs)
        return method(*args, **kwargs)

    return named_after(method, checked)


def check_arguments(
    named: Any, function: Any, arguments: Mapping[str, Any], others: Iterable[str] = ()
) -> None:
    """Raises TypeError if ``function`` does not take some of these keyword arguments.

    Args:
        named: the class or function that the user called, for the message.
        function: the function that gets the arguments.
        arguments: the arguments given.
        others: further arguments that ``named`` takes, for the message.
    """
    known, takes_any = _arguments_of(function)
    if not takes_any:
        unknown = [name for name in arguments if name not in known]
        refuse_unknown(named.__name__, unknown, dict.fromkeys([*others, *known]))


def argument_names(cls: type) -> list[str]:
    """The argument names of a class's constructor. If it takes ``**kwargs``, also those of its base class."""
    names: dict[str, None] = {}
    for base in cls.__mro__[:-1]:
        if "__init__" in vars(base):
            known, takes_any = _arguments_of(base.__init__)  # type: ignore[misc]
            names.update(dict.fromkeys(known))
            if not takes_any:
                break
    return list(names)


def refuse_unknown(called: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for the first of the ``unknown`` arguments of ``called``, if there is one."""
    for name in unknown:
        near = did_you_mean(name, known).replace(" Did", ": did", 1)
        listed = f" Known: {', '.join(known)}" if near else f": known are {', '.join(known) or 'none'}"
        raise TypeError(f"{called}() has no argument {name!r}{near}{listed}")


@functools.cache
def _arguments_of(function: Any) -> tuple[tuple[str, ...], bool]:
    """The argument names of a function, and whether it takes others too.

    ``((), True)`` without a signature.
    """
    if function is object.__init__:
        return (), False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return (), True
    names = tuple(p.name for p in parameters if p.kind in _BY_NAME and p.name != "self")
    return names, any(p.kind is Parameter.VAR_KEYWORD for p in parameters)

"""ParameterTree: the leaves of a pytree of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from distopt.core.variable import Variable
from distopt.jax.array_pool import ArrayPool
from distopt.jax.leaf import ParameterLeaf, check_concrete
from distopt.typing import Array

__all__ = ["ParameterTree"]

#: How many leaves a message names.
_NAMED = 8


class ParameterTree:
    """The leaves of a pytree of parameters.

    None counts as a leaf, unlike in JAX, so that a pytree of gradients may have None in place of any leaf.

    Args:
        call: the caller, for messages.
        params: the pytree.

    Attributes:
        trained: the leaves that are trained: arrays of real or complex floating-point numbers.

    Raises:
        TypeError: called inside a function that JAX transforms.
        ValueError: no leaf can be trained, or a leaf is on a GPU.
    """

    def __init__(self, call: str, params: Any) -> None:
        entries, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_none)
        self._structure: Any = structure
        check_concrete(call, [value for _, value in entries])
        self._leaves = [ParameterLeaf(_name(path), value) for path, value in entries]
        self.trained = [leaf for leaf in self._leaves if leaf.variable is not None]
        if not self.trained:
            raise ValueError(f"{call}: there is no leaf to train: none is an array of floating-point numbers")
        self._pool = ArrayPool()

    @property
    def variables(self) -> list[Variable]:
        """The variables of the trained leaves, in their order."""
        return [leaf.variable for leaf in self.trained if leaf.variable is not None]

    @property
    def shared(self) -> list[ParameterLeaf]:
        """The leaves that get replica 0's values but are not trained, such as arrays of integers."""
        return [leaf for leaf in self._leaves if leaf.is_shared]

    def value(self) -> Any:
        """The pytree with the current values of the variables.

        Arrays that were returned before do not change.
        """
        old = [leaf for leaf in self.trained if leaf.is_old]
        values = [np.asarray(leaf.variable.storage.array) for leaf in old if leaf.variable is not None]
        for leaf, array in zip(old, self._pool.copies(values, [leaf.device for leaf in old]), strict=True):
            leaf.show(array)
        return jax.tree_util.tree_unflatten(self._structure, [leaf.value for leaf in self._leaves])

    def with_arrays(self, arrays: Iterable[Array]) -> Any:
        """The pytree with ``arrays`` as its trained leaves, in their order."""
        others = zip(self.trained, arrays, strict=True)
        found = {id(leaf): jax.device_put(array, leaf.device) for leaf, array in others}
        values = [found.get(id(leaf), leaf.value) for leaf in self._leaves]
        return jax.tree_util.tree_unflatten(self._structure, values)

    def arrays(self, call: str, tree: Any) -> list[tuple[Array, Variable]]:
        """Returns (array, variable) for each trained leaf for which ``tree`` has an array.

        Args:
            call: the caller, for messages.
            tree: gradients or new values, a pytree of the same structure. None leaves a leaf out.

        Raises:
            TypeError: called inside a function that JAX transforms, or an array does not hold numbers.
            ValueError: the structure or a shape differs.
        """
        values, structure = jax.tree_util.tree_flatten(tree, is_leaf=_is_none)
        check_concrete(call, values)
        if structure != self._structure:
            raise ValueError(f"{call}: {self._difference(tree)}")
        found = []
        for leaf, value in zip(self._leaves, values, strict=True):
            array = leaf.gradient(value)
            if array is not None and leaf.variable is not None:
                found.append((array, leaf.variable))
        return found

    def matches(self, prefix: Any, what: str) -> list[bool]:
        """Returns for each trained leaf its value in a mask.

        Args:
            prefix: a pytree of Booleans like the parameters, or a prefix of it.
            what: the name of the argument, for messages.

        Raises:
            ValueError: the structure differs.
        """
        return [bool(value) for value in self.spread(prefix, f"{what} must be a pytree of Booleans", None)]

    def spread(self, prefix: Any, must_be: str, is_leaf: Callable[[Any], bool] | None) -> list[Any]:
        """Returns for each trained leaf the value that a prefix tree has for it or for its subtree.

        Args:
            prefix: a pytree like the parameters, or a prefix of it.
            must_be: the requirement, for messages, such as "mask must be a pytree of Booleans".
            is_leaf: says which nodes of ``prefix`` are leaves in addition to those of JAX, or None.

        Raises:
            ValueError: the structure differs.
        """

        def below(value: Any, part: Any) -> Any:
            return jax.tree_util.tree_map(lambda _: _Opaque(value), part, is_leaf=_is_none)

        try:
            tree = jax.tree_util.tree_map(below, prefix, self.value(), is_leaf=is_leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{must_be} like the parameters: {error}") from None
        flat = jax.tree_util.tree_leaves(tree, is_leaf=_is_none)
        pairs = zip(self._leaves, flat, strict=True)
        return [opaque.value for leaf, opaque in pairs if leaf.variable is not None]

    def absent(self, present: Iterable[Variable]) -> str:
        """The names of the trained leaves whose variables are not in ``present``, for messages."""
        ids = set(map(id, present))
        names = [leaf.name for leaf in self.trained if id(leaf.variable) not in ids]
        return _listed(names)

    def _difference(self, tree: Any) -> str:
        entries, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)
        given, own = [_name(path) for path, _ in entries], [leaf.name for leaf in self._leaves]
        missing = _listed([name for name in own if name not in given])
        unknown = _listed([name for name in given if name not in own])
        parts = [f"it lacks {missing}"] * bool(missing) + [f"it also has {unknown}"] * bool(unknown)
        return "the pytree is not like that of init(): " + (" and ".join(parts) or "its containers differ")


class _Opaque:
    """Wraps a value so that JAX treats it as a leaf, even if it is a pytree."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _name(path: Any) -> str:
    return f"params{jax.tree_util.keystr(path)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _is_none(value: Any) -> bool:
    return value is None

"""ParameterTree: a pytree of parameters, leaf by leaf."""

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

#: So many leaves are named.
_NAMED = 8


class ParameterTree:
    """The leaves of a pytree; None counts as one, so that gradients may have it in place of any.

    Args:
        call: who asks, for messages.
        params: the pytree.

    Attributes:
        trained: the leaves that have a Variable.

    Raises:
        TypeError: called inside a function that JAX transforms.
        ValueError: nothing in it can be trained, or a leaf lies on a GPU.
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
        """Those of the trained leaves."""
        return [leaf.variable for leaf in self.trained if leaf.variable is not None]

    @property
    def shared(self) -> list[ParameterLeaf]:
        """Leaves of numbers that are not trained."""
        return [leaf for leaf in self._leaves if leaf.is_shared]

    def value(self) -> Any:
        """The pytree with the values that the variables have now; arrays from before keep theirs."""
        old = [leaf for leaf in self.trained if leaf.is_old]
        values = [np.asarray(leaf.variable.storage.array) for leaf in old if leaf.variable is not None]
        for leaf, array in zip(old, self._pool.copies(values, [leaf.device for leaf in old]), strict=True):
            leaf.show(array)
        return jax.tree_util.tree_unflatten(self._structure, [leaf.value for leaf in self._leaves])

    def with_arrays(self, arrays: Iterable[Array]) -> Any:
        """The pytree with other values for its trained leaves, in their order."""
        others = zip(self.trained, arrays, strict=True)
        found = {id(leaf): jax.device_put(array, leaf.device) for leaf, array in others}
        values = [found.get(id(leaf), leaf.value) for leaf in self._leaves]
        return jax.tree_util.tree_unflatten(self._structure, values)

    def arrays(self, call: str, tree: Any) -> list[tuple[Array, Variable]]:
        """Arrays for variables from a pytree of the same structure, without those that are None.

        Args:
            call: who asks, for messages.
            tree: gradients, or values; None in it stands for a leaf that is left alone.

        Raises:
            TypeError: inside of a function that JAX transforms; no numbers.
            ValueError: another structure or shape.
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
        """For each trained leaf what a pytree of Booleans says of it.

        Args:
            prefix: a pytree like the parameters, or a prefix of it.
            what: its name, for messages.
        """
        return [bool(value) for value in self.spread(prefix, f"{what} must be a pytree of Booleans", None)]

    def spread(self, prefix: Any, must_be: str, is_leaf: Callable[[Any], bool] | None) -> list[Any]:
        """For each trained leaf what stands for it in a pytree, or for a tree that it is in.

        Args:
            prefix: a pytree like the parameters, or a prefix of it.
            must_be: for messages, such as "mask must be a pytree of Booleans".
            is_leaf: what in ``prefix`` is a leaf, besides what is one for JAX.
        """

        def below(value: Any, part: Any) -> Any:
            return jax.tree_util.tree_map(lambda _: _Said(value), part, is_leaf=_is_none)

        try:
            tree = jax.tree_util.tree_map(below, prefix, self.value(), is_leaf=is_leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{must_be} like the parameters: {error}") from None
        flat = jax.tree_util.tree_leaves(tree, is_leaf=_is_none)
        pairs = zip(self._leaves, flat, strict=True)
        return [said.value for leaf, said in pairs if leaf.variable is not None]

    def absent(self, present: Iterable[Variable]) -> str:
        """The names of trained leaves that are not among these variables, for headers and messages."""
        there = set(map(id, present))
        names = [leaf.name for leaf in self.trained if id(leaf.variable) not in there]
        return _listed(names)

    def _difference(self, tree: Any) -> str:
        entries, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_none)
        given, own = [_name(path) for path, _ in entries], [leaf.name for leaf in self._leaves]
        missing = _listed([name for name in own if name not in given])
        unknown = _listed([name for name in given if name not in own])
        parts = [f"it lacks {missing}"] * bool(missing) + [f"it also has {unknown}"] * bool(unknown)
        return "the pytree is not like that of init(): " + (" and ".join(parts) or "its containers differ")


class _Said:
    """A leaf that holds anything, even a tree."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _name(path: Any) -> str:
    return f"params{jax.tree_util.keystr(path)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _is_none(value: Any) -> bool:
    return value is None

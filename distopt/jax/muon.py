"""Muon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_count, as_one_of, shown
from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rates import check_none, checked_rate, value_at
from distopt.jax.rules.adam import AdamRule
from distopt.jax.rules.leaf_rule import LeafUpdate
from distopt.jax.rules.muon import TWO_AXES, AdamBesideMuon, MatrixAxes, MuonRule, Orthogonalizer
from distopt.jax.tree import ParameterTree
from distopt.optimizers.limits import BELOW_ONE, NOT_NEGATIVE, within
from distopt.optimizers.newton_schulz import COEFFICIENTS
from distopt.typing import Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["muon"]

#: The coefficients of five Newton-Schulz steps from Ahn et al. 2025, arXiv:2504.05295.
_DION = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
_PRESETS = {"standard": COEFFICIENTS, "dion": _DION}
_PRECONDITIONINGS = ("frobenius", "aol", "schatten")


def muon(
    learning_rate: Any,
    ns_coeffs: Any = COEFFICIENTS,
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: Any = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    adam_weight_decay: float = 0.0,
    adam_learning_rate: Any = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.contrib.muon`` over all replicas: orthogonalized updates for matrices, AdamW for other leaves.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        ns_coeffs: the coefficients of the Newton-Schulz steps: three numbers for all steps or for each,
            "standard" or "dion".
        ns_steps: the number of Newton-Schulz steps, unless ``ns_coeffs`` gives coefficients for each.
        beta: the decay rate of the running mean of the gradient.
        eps: added to the norm that a matrix is divided by, and to the denominator of Adam.
        weight_decay: the coefficient of decoupled weight decay for matrices, a number or a schedule.
        weight_decay_mask: which matrices decay: a pytree of Booleans, or a function that returns one.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        nesterov: whether to use Nesterov momentum, in Adam too.
        adaptive: whether to scale updates by the dual norm of the running mean.
        preconditioning: how matrices are scaled first: "frobenius", "aol" or "schatten", not "spectral".
        adam_b1: see ``adamw``.
        adam_b2: see ``adamw``.
        adam_eps_root: see ``adamw``.
        adam_weight_decay: see ``adamw``.
        adam_learning_rate: the learning rate of Adam, a number or a schedule. None for ``learning_rate``.
        muon_weight_dimension_numbers: a pytree of optax's ``MuonDimensionNumbers``, or a function that
            returns one. Leaves with None are trained by Adam. By default all leaves that do not have two axes
            are.
        consistent_rms: the root mean square of an update, as a multiple of the learning rate. None to scale
            updates by the shape of the matrix.
        **options: see ApplyOptions.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers"; ``optax.contrib.muon``.
    """
    check_none("mu_dtype", mu_dtype)
    how = _orthogonalizer(ns_coeffs, ns_steps, preconditioning, eps)
    matrices = _matrices(how, beta, nesterov, adaptive, consistent_rms)
    adam = AdamRule(adam_b1, adam_b2, eps, adam_eps_root, nesterov)
    others = _others(adam, adam_learning_rate, adam_weight_decay)
    rules = partial(_rules, matrices, others, muon_weight_dimension_numbers)
    decay = weight_decay, weight_decay_mask
    return Optimizer("muon", matrices, learning_rate, options, *decay, rules=rules)


def _rules(
    matrices: MuonRule, others: AdamBesideMuon, numbers: Any, tree: ParameterTree, params: Any
) -> list[LeafUpdate]:
    """The algorithm of each trained leaf: Muon for matrices, Adam for the others."""
    found = _axes(tree, params, numbers)
    return [others if axes is None else replace(matrices, axes=axes) for axes in found]


def _orthogonalizer(ns_coeffs: Any, ns_steps: int, preconditioning: str, eps: float) -> Orthogonalizer:
    within(NOT_NEGATIVE, eps, "eps of muon()")
    if preconditioning == "spectral":
        raise ValueError(
            "muon(): preconditioning='spectral' is not supported: the bits of a largest singular value "
            "depend on the library that computes it. Use 'frobenius', 'aol' or 'schatten'"
        )
    as_one_of(preconditioning, "preconditioning of muon()", _PRECONDITIONINGS)
    coefficients = _coefficients(ns_coeffs, as_count(ns_steps, "ns_steps of muon()"))
    return Orthogonalizer(coefficients, preconditioning, float(eps))


def _matrices(how: Orthogonalizer, beta: float, nesterov: bool, adaptive: bool, rms: Any) -> MuonRule:
    within(BELOW_ONE, beta, "beta of muon()")
    if rms is not None:
        rms = float(within(NOT_NEGATIVE, rms, "consistent_rms of muon()"))
    return MuonRule(how, float(beta), nesterov, adaptive, rms)


def _others(adam: AdamRule, rate: Any, decay: float) -> AdamBesideMuon:
    within(NOT_NEGATIVE, decay, "adam_weight_decay of muon()")
    rate = None if rate is None else checked_rate(rate, "adam_learning_rate of muon()")
    return AdamBesideMuon(adam, rate, float(decay))


def _coefficients(given: Any, steps: int) -> tuple[tuple[float, float, float], ...]:
    """The coefficients of each Newton-Schulz step, from the arguments ``ns_coeffs`` and ``ns_steps``."""
    if isinstance(given, str):
        given = _PRESETS[as_one_of(given, "ns_coeffs of muon()", list(_PRESETS))]
    try:
        table = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        table = np.zeros(0)
    if table.ndim not in (1, 2) or table.shape[-1] != 3:
        raise ValueError(
            f"ns_coeffs of muon() are three numbers, three for each step, 'standard' or 'dion'; "
            f"got {shown(given)}"
        )
    if table.ndim == 2 and len(table) > steps:
        raise ValueError(f"muon(): ns_coeffs are those of {len(table)} steps, but ns_steps is {steps}")
    rows = [table] * steps if table.ndim == 1 else list(table)
    return tuple([(value_at(a, 0, "ns_coeffs"), float(b), float(c)) for a, b, c in rows])


def _axes(tree: ParameterTree, params: Any, numbers: Any) -> list[MatrixAxes | None]:
    """For each trained leaf the axes of its matrices; None for a leaf that Adam updates."""
    shapes = [
        (leaf.name, variable.shape) for leaf, variable in zip(tree.trained, tree.variables, strict=True)
    ]
    if numbers is None:
        return [TWO_AXES if len(shape) == 2 else None for _, shape in shapes]
    made = numbers(params) if callable(numbers) else numbers
    what = "muon_weight_dimension_numbers must be a pytree of MuonDimensionNumbers and None"
    said = tree.spread(made, what, _is_numbers)
    return [_checked(name, shape, value) for (name, shape), value in zip(shapes, said, strict=True)]


def _is_numbers(value: Any) -> bool:
    return value is None or hasattr(value, "reduction_axis")


def _checked(name: str, shape: Shape, value: Any) -> MatrixAxes | None:
    if value is None:
        return None
    if not _is_numbers(value):
        raise ValueError(
            f"muon_weight_dimension_numbers has {shown(value)} for {name}: MuonDimensionNumbers or None"
        )
    rows, columns = (_normal(name, shape, axes) for axes in (value.reduction_axis, value.output_axis))
    both = (*rows, *columns)
    if not rows or not columns or len(set(both)) < len(both):
        raise ValueError(
            f"muon_weight_dimension_numbers of {name}: {value} must name different axes for rows and columns"
        )
    return MatrixAxes(rows, columns)


def _normal(name: str, shape: Shape, axes: int | Sequence[int]) -> tuple[int, ...]:
    given = [axes] if isinstance(axes, int) else list(axes)
    if not all(-len(shape) <= axis < len(shape) for axis in given):
        raise ValueError(
            f"muon_weight_dimension_numbers of {name} names axes {given}, but its shape is {shape}"
        )
    return tuple([axis % len(shape) for axis in given])

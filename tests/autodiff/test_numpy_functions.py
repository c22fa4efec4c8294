"""Gradients of NumPy functions against central differences in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distopt.autodiff import GradientTape, gather, rules
from distopt.core import IndexedSlices, Variable

RNG = np.random.default_rng(7)


def _normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def _positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, size=shape)


MASK = RNG.random((3, 4)) > 0.5
SPD = (lambda m: m @ m.T + 4 * np.eye(3))(_normal(3, 3))

# name: (function, arguments)
CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    # elementwise
    "add broadcast": (lambda x, y: x + y, [_normal(3, 4), _normal(4)]),
    "subtract broadcast": (lambda x, y: x - y, [_normal(3, 1), _normal(1, 4)]),
    "multiply broadcast": (lambda x, y: x * y, [_normal(3, 4), _normal(3, 1)]),
    "multiply scalar": (lambda x, y: x * y, [_normal(3, 4), _normal()]),
    "divide": (lambda x, y: x / y, [_normal(3, 4), _positive(4)]),
    "rdivide": (lambda x: 2.0 / x, [_positive(3, 4)]),
    "negative": (lambda x: -x, [_normal(3)]),
    "positive": (lambda x: +x, [_normal(3)]),
    "power 2": (lambda x: x**2, [_normal(3, 4)]),
    "power 3.5": (lambda x: x**3.5, [_positive(3, 4)]),
    "power -1": (lambda x: x**-1, [_positive(3)]),
    "power 0": (lambda x: x**0 + x, [_normal(3)]),
    "power with exponent 0": (lambda x, y: x**y, [_positive(3), np.array([0.0, 1.0, 2.0])]),
    "power both": (lambda x, y: x**y, [_positive(3, 4), _normal(4)]),
    "rpower": (lambda x: 2.0**x, [_normal(3)]),
    "exp": (np.exp, [_normal(3, 4)]),
    "log": (np.log, [_positive(3, 4)]),
    "log1p": (np.log1p, [_positive(3)]),
    "expm1": (np.expm1, [_normal(3)]),
    "sqrt": (np.sqrt, [_positive(3, 4)]),
    "cbrt": (np.cbrt, [_positive(3)]),
    "square": (np.square, [_normal(3)]),
    "abs": (np.abs, [_normal(3, 4)]),
    "fabs": (np.fabs, [_normal(3, 4)]),
    "copy": (np.copy, [_normal(3, 4)]),
    "astype": (lambda x: x.astype(np.float64), [_normal(3, 4)]),
    "amin": (lambda x: np.amin(x, axis=0), [_normal(3, 4)]),
    "reciprocal": (np.reciprocal, [_positive(3)]),
    "sin cos": (lambda x: np.sin(x) * np.cos(x), [_normal(3)]),
    "tan": (np.tan, [_normal(3) / 3]),
    "arctan2": (np.arctan2, [_positive(3), _positive(3)]),
    "tanh": (np.tanh, [_normal(3, 4)]),
    "sinh cosh": (lambda x: np.sinh(x) * np.cosh(x), [_normal(3)]),
    "arcsin": (np.arcsin, [_normal(3) / 4]),
    "arctanh": (np.arctanh, [_normal(3) / 5]),
    "logaddexp": (np.logaddexp, [_normal(3, 4), _normal(4)]),
    "maximum": (np.maximum, [_normal(3, 4), _normal(4)]),
    "minimum": (lambda x: np.minimum(x, 0.2), [_normal(3, 4)]),
    "hypot": (np.hypot, [_positive(3), _positive(3)]),
    "where": (lambda x, y: np.where(MASK, x, y), [_normal(3, 4), _normal(4)]),
    "where scalar": (lambda x: np.where(x > 0, x, 0.1 * x), [_normal(3, 4)]),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), [_normal(3, 4)]),
    "clip one side": (lambda x: np.clip(x, 0.0, None), [_normal(3, 4)]),
    "clip by keyword": (lambda x: np.clip(x, min=-0.3), [_normal(3, 4)]),
    "clip bounds": (lambda x, lo: np.clip(x, lo, 2.0), [_normal(3, 4), _normal(4)]),
    "nan_to_num": (np.nan_to_num, [_normal(3)]),
    # reductions
    "sum": (np.sum, [_normal(3, 4)]),
    "sum axis": (lambda x: np.sum(x, axis=1), [_normal(3, 4)]),
    "sum axes": (lambda x: np.sum(x, axis=(0, -1), keepdims=True), [_normal(3, 4, 2)]),
    "sum where": (lambda x: np.sum(x, where=MASK), [_normal(3, 4)]),
    "add.reduce": (lambda x: np.add.reduce(x, axis=0), [_normal(3, 4)]),
    "maximum.reduce": (np.maximum.reduce, [_normal(3, 4)]),
    "mean": (np.mean, [_normal(3, 4)]),
    "mean axis": (lambda x: np.mean(x, axis=0, keepdims=True), [_normal(3, 4)]),
    "mean axes": (lambda x: np.mean(x, (0, 2)), [_normal(3, 4, 2)]),
    "max": (lambda x: np.max(x, axis=1), [_normal(3, 4)]),
    "max all": (np.max, [_normal(3, 4)]),
    "max axes": (lambda x: np.amax(x, axis=(0, 1)), [_normal(3, 4, 2)]),
    "min": (lambda x: np.min(x, axis=-1, keepdims=True), [_normal(3, 4)]),
    "prod": (lambda x: np.prod(x, axis=1), [_normal(3, 4)]),
    "prod with zero": (np.prod, [np.array([[1.0, 0.0], [2.0, 3.0]])]),
    "prod axes with zero": (
        lambda x: np.prod(x, axis=(0, 2)),
        [_normal(2, 2, 3) * (np.arange(12).reshape(2, 2, 3) != 4)],
    ),
    "var": (lambda x: np.var(x, axis=1, ddof=1), [_normal(3, 4)]),
    "std": (lambda x: np.std(x, axis=0), [_normal(3, 4)]),
    "ptp": (lambda x: np.ptp(x, axis=0), [_normal(3, 4)]),
    "average": (lambda x, w: np.average(x, axis=1, weights=w), [_normal(3, 4), _positive(4)]),
    "nansum": (np.nansum, [_normal(3)]),
    "cumsum": (lambda x: np.cumsum(x, axis=0), [_normal(3, 4)]),
    "cumsum last": (lambda x: np.cumsum(x, axis=-1), [_normal(3, 4)]),
    "cumsum flat": (np.cumsum, [_normal(3, 4)]),
    "method sum mean": (lambda x: x.sum(axis=0) + x.mean() + x.max() + x.min(), [_normal(3, 4)]),
    # products
    "matmul": (lambda x, y: x @ y, [_normal(3, 4), _normal(4, 2)]),
    "matmul vector": (lambda x, y: x @ y, [_normal(3, 4), _normal(4)]),
    "matmul left vector": (lambda x, y: x @ y, [_normal(4), _normal(4, 2)]),
    "matmul vectors": (lambda x, y: x @ y, [_normal(4), _normal(4)]),
    "matmul batches": (np.matmul, [_normal(2, 3, 4), _normal(4, 2)]),
    "matmul batches vector": (np.matmul, [_normal(2, 3, 4), _normal(4)]),
    "matmul vector batches": (np.matmul, [_normal(4), _normal(2, 4, 3)]),
    "matmul broadcast batches": (np.matmul, [_normal(1, 2, 3, 4), _normal(5, 1, 4, 2)]),
    "dot": (np.dot, [_normal(3, 4), _normal(4, 2)]),
    "dot vectors": (np.dot, [_normal(4), _normal(4)]),
    "inner": (np.inner, [_normal(3, 4), _normal(2, 4)]),
    "outer": (np.outer, [_normal(3), _normal(4)]),
    "vdot": (np.vdot, [_normal(3), _normal(3)]),
    "vecdot": (np.vecdot, [_normal(2, 3), _normal(3)]),
    "tensordot": (lambda x, y: np.tensordot(x, y, axes=([1], [0])), [_normal(3, 4), _normal(4, 2)]),
    "tensordot 2": (lambda x, y: np.tensordot(x, y, 2), [_normal(2, 3, 4), _normal(3, 4, 2)]),
    "einsum": (lambda x, y: np.einsum("ij,jk->ik", x, y), [_normal(3, 4), _normal(4, 2)]),
    "einsum batch": (lambda x, y: np.einsum("bij,bj->bi", x, y), [_normal(2, 3, 4), _normal(2, 4)]),
    "einsum sum": (lambda x: np.einsum("ij->j", x), [_normal(3, 4)]),
    "kron": (np.kron, [_normal(2, 2), _normal(2, 3)]),
    # shapes
    "reshape": (lambda x: np.reshape(x, (4, 3)), [_normal(3, 4)]),
    "reshape method": (lambda x: x.reshape(2, 6) + x.reshape((2, -1)), [_normal(3, 4)]),
    "transpose": (lambda x: np.transpose(x, (1, -1, 0)), [_normal(2, 3, 4)]),
    "T": (lambda x: x.T, [_normal(3, 4)]),
    "swapaxes": (lambda x: np.swapaxes(x, 0, 2), [_normal(2, 3, 4)]),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1), [_normal(2, 3, 4)]),
    "ravel": (np.ravel, [_normal(3, 4)]),
    "squeeze": (lambda x: np.squeeze(x, 1), [_normal(3, 1)]),
    "expand_dims": (lambda x: np.expand_dims(x, 1), [_normal(3)]),
    "full_like": (lambda x, y: np.full_like(x, y) * x, [_normal(3, 4), _normal(4)]),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), [_normal(3, 1)]),
    "concatenate": (lambda x, y: np.concatenate([x, y], axis=1), [_normal(3, 4), _normal(3, 2)]),
    "concatenate flat": (lambda x, y: np.concatenate([x, y], axis=None), [_normal(3, 4), _normal(2)]),
    "concatenate constant": (lambda x: np.concatenate([np.ones((1, 4)), x, x]), [_normal(3, 4)]),
    "stack": (lambda x, y: np.stack([x, y], axis=-1), [_normal(3), _normal(3)]),
    "vstack": (lambda x, y: np.vstack([x, y]), [_normal(3), _normal(2, 3)]),
    "hstack": (lambda x, y: np.hstack((x, y)), [_normal(3, 1), _normal(3, 2)]),
    "dstack": (lambda x, y: np.dstack((x, y)), [_normal(3, 2), _normal(3, 2)]),
    "column_stack": (lambda x, y: np.column_stack((x, y)), [_normal(3), _normal(3, 2)]),
    "append": (lambda x, y: np.append(x, y), [_normal(3), _normal(2)]),
    "split": (lambda x: (lambda a, b: a * 2 + b)(*np.split(x, 2)), [_normal(4, 3)]),
    "tile": (lambda x: np.tile(x, 3), [_normal(2, 3)]),
    "repeat": (lambda x: np.repeat(x, [1, 0, 2], axis=0), [_normal(3, 2)]),
    "flip": (lambda x: np.flip(x, 1), [_normal(3, 4)]),
    "roll": (lambda x: np.roll(x, (1, -1), (0, 1)), [_normal(3, 4)]),
    "pad": (lambda x: np.pad(x, ((1, 0), (2, 1))), [_normal(3, 4)]),
    "diag": (lambda x: np.diag(x, 1), [_normal(3)]),
    "diag of matrix": (lambda x: np.diag(x, -1), [_normal(3, 4)]),
    "trace": (np.trace, [_normal(3, 4)]),
    "tril triu": (lambda x: np.tril(x) * 2 + np.triu(x, 1), [_normal(3, 3)]),
    "diff": (lambda x: np.diff(x, axis=1), [_normal(3, 4)]),
    "sort": (lambda x: np.sort(x, axis=0), [_normal(3, 4)]),
    # indexing
    "index int": (lambda x: x[1], [_normal(3, 4)]),
    "index negative": (lambda x: x[-1, ::2], [_normal(3, 4)]),
    "index newaxis": (lambda x: x[..., None], [_normal(3, 4)]),
    "index mask": (lambda x: x[MASK], [_normal(3, 4)]),
    "index condition": (lambda x: x[x > 0], [_normal(3, 4)]),
    "index array": (lambda x: x[[0, 2, 0]], [_normal(3, 4)]),
    "index pairs": (lambda x: x[np.arange(3), [3, 0, 0]], [_normal(3, 4)]),
    "index twice": (lambda x: x[0] * x[1] + x[:, 1:][2, 0], [_normal(3, 4)]),
    "unpack": (lambda x: (lambda a, b: a * b)(*x), [_normal(2, 3)]),
    "take": (lambda x: np.take(x, [3, 0, 0], axis=1), [_normal(3, 4)]),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.array([[1], [0], [3]]), 1), [_normal(3, 4)]),
    "gather": (lambda x: gather(x, [[0, 2], [0, 1]]), [_normal(3, 4)]),
    # linear algebra
    "norm": (np.linalg.norm, [_normal(3, 4)]),
    "norm axis": (lambda x: np.linalg.norm(x, axis=1), [_normal(3, 4)]),
    "inv": (np.linalg.inv, [SPD]),
    "det": (np.linalg.det, [SPD]),
    "slogdet": (lambda x: np.linalg.slogdet(x)[1], [SPD]),
    "solve": (np.linalg.solve, [SPD, _normal(3, 2)]),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T + 3 * np.eye(3)), [_normal(3, 3)]),
    "eigh": (lambda x: np.linalg.eigh((x + x.T) / 2).eigenvalues, [_normal(3, 3)]),
    "svd": (lambda x: np.linalg.svd(x, full_matrices=False).S, [_normal(4, 3)]),
}


def _scalar(function: Callable[..., Any], values: list[Any]) -> Any:
    result = function(*values)
    weights = np.cos(np.arange(np.size(result)) + 1.0).reshape(np.shape(result))
    return np.sum(result * weights)


def _numeric(
    function: Callable[..., Any], values: list[np.ndarray], which: int, step: float = 1e-6
) -> np.ndarray:
    gradient = np.zeros_like(values[which])
    for index in np.ndindex(gradient.shape):
        up, down = [np.array(v) for v in values], [np.array(v) for v in values]
        up[which][index] += step
        down[which][index] -= step
        gradient[index] = (_scalar(function, up) - _scalar(function, down)) / (2 * step)
    return gradient


def _dense(gradient: Any) -> np.ndarray:
    return gradient.to_dense() if isinstance(gradient, IndexedSlices) else gradient.numpy()


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_differences(name: str) -> None:
    function, values = CASES[name]
    variables = [Variable(v) for v in values]
    with GradientTape() as tape:
        loss = _scalar(function, variables)
    np.testing.assert_allclose(float(loss), float(_scalar(function, values)), rtol=1e-12)
    for which, gradient in enumerate(tape.gradient(loss, variables)):
        np.testing.assert_allclose(_dense(gradient), _numeric(function, values, which), rtol=2e-6, atol=2e-8)


@pytest.mark.parametrize("name", CASES)
def test_second_derivative_agrees_with_differences_of_the_first(name: str) -> None:
    function, values = CASES[name]
    curved = lambda *xs: np.sin(1.0 * function(*xs))  # noqa: E731

    def slope(points: list[Any]) -> Any:
        variables = [Variable(p) for p in points]
        with GradientTape() as outer:
            with GradientTape() as inner:
                loss = _scalar(curved, variables)
            total = 0.0
            for gradient in inner.gradient(loss, variables):
                dense = gradient.values if isinstance(gradient, IndexedSlices) else gradient
                total = total + np.sum(
                    dense * np.sin(np.arange(np.size(dense)) + 0.5).reshape(np.shape(dense))
                )
        return total, [_dense(g) for g in outer.gradient(total, variables)]

    _, second = slope(values)
    step = 1e-6
    for which, value in enumerate(values):
        numeric = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            ends = []
            for sign in (step, -step):
                points = [np.array(v) for v in values]
                points[which][index] += sign
                ends.append(float(slope(points)[0]))
            numeric[index] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(second[which], numeric, rtol=2e-5, atol=1e-7)


def test_every_rule_has_a_case() -> None:
    def used_by(node: Any) -> set[Any]:
        return {node.function}.union(*(used_by(parent) for parent in node.parents))

    used = set()
    for function, values in CASES.values():
        variables = [Variable(v) for v in values]
        with GradientTape():
            used |= used_by(_scalar(function, variables)._node)
    assert {f.__name__ for f, rule in rules.rules().items() if rule not in used} == set()


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name: str) -> None:
    function, values = CASES[name]
    narrow = [v.astype(np.float32) for v in values]
    variables = [Variable(v) for v in narrow]
    plain = function(*narrow)
    with GradientTape() as tape:
        result = function(*variables)
    assert result.dtype == np.asarray(plain).dtype
    for gradient, variable in zip(tape.gradient(result, variables), variables, strict=True):
        assert gradient.dtype == np.float32
        assert gradient.shape == variable.shape

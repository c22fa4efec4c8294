"""First and second derivatives against central differences, in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.autodiff import GradientTape
from distopt.core import IndexedSlices, Variable
from distopt.core.tensor import as_array

__all__ = ["check_derivatives"]

#: The best step for central differences of float64 is about the cube root of its precision.
STEP = 1e-5


def check_derivatives(function: Callable[..., Any], *values: Any, rtol: float = 1e-6) -> None:
    """Raises AssertionError if a derivative that the tape gives is wrong.

    Args:
        function: of as many variables, all of which are moved; it may read others too.
        values: arrays, of which variables are made, or variables themselves.
        rtol: by how much derivatives may differ, of the largest one.
    """
    variables = [v if isinstance(v, Variable) else Variable(np.asarray(v, np.float64)) for v in values]
    assert {v.dtype.name for v in variables} == {"float64"}

    steep = 1 / max(1.0, float(np.max(np.abs(as_array(function(*variables))))))

    def scalar() -> Any:
        result = function(*variables)
        assert result.dtype == np.float64
        # The sine makes the second derivative depend on what comes in from behind, too.
        return np.sum(np.sin(steep * result) * _weights(result.shape))

    with GradientTape() as tape:
        value = scalar()
    _compare("first", tape.gradient(value, variables), lambda: float(as_array(scalar())), variables, rtol)
    with GradientTape() as tape:
        value = _slope(scalar, variables)
    found = tape.gradient(value, variables)
    _compare("second", found, lambda: float(as_array(_slope(scalar, variables))), variables, rtol)


def _slope(scalar: Callable[[], Any], variables: Sequence[Variable]) -> Any:
    """The derivative of ``scalar`` along a direction, by all variables at once."""
    with GradientTape() as tape:
        value = scalar()
    total: Any = 0.0 * variables[0].read_value().sum()
    for gradient, variable in zip(tape.gradient(value, variables), variables, strict=True):
        if isinstance(gradient, IndexedSlices):
            weights = _weights(variable.shape)[as_array(gradient.indices)]
            total = total + np.sum(gradient.values * weights)
        elif gradient is not None:
            total = total + np.sum(gradient * _weights(variable.shape))
    return total


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.cos(np.arange(float(np.prod(shape))) + 0.7).reshape(shape)


def _compare(
    which: str, found: list[Any], value: Callable[[], float], variables: list[Variable], rtol: float
) -> None:
    for k, (gradient, variable) in enumerate(zip(found, variables, strict=True)):
        at = variable.numpy() * 1.0
        expected = np.zeros_like(at)
        for index in np.ndindex(expected.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = np.array(at)
                moved[index] += step
                variable.assign(moved)
                ends.append(value())
            expected[index] = (ends[0] - ends[1]) / (2 * STEP)
        variable.assign(at)
        got = np.zeros_like(at) if gradient is None else gradient
        got = got.to_dense() if isinstance(got, IndexedSlices) else np.asarray(got)
        scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=rtol * scale, err_msg=f"{which} derivative by argument {k}"
        )

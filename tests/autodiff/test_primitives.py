"""Functions of one's own: primitive, defvjp, custom_gradient, stop_gradient; and autograd beside us."""

from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from distopt.autodiff import GradientTape, custom_gradient, defvjp, defvjp_argnums, primitive, stop_gradient
from distopt.autodiff.boxes import TensorBox
from distopt.core import Tensor, Variable, constant


@primitive
def scaled_sum(x: Any, w: Any, power: int = 1) -> Any:
    """Sums w * x**power."""
    assert type(x) is np.ndarray
    assert type(w) is np.ndarray
    return np.sum(w * x**power)


defvjp(
    scaled_sum,
    lambda _ans, x, w, power=1: lambda g: g * w * power * x ** (power - 1),
    lambda _ans, x, _w, power=1: lambda g: g * x**power,
)


def test_primitive_takes_arrays_tensors_variables_and_traced_values() -> None:
    x, w = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    v = Variable(x)
    assert type(scaled_sum(x, w)) is np.float64
    for result in (scaled_sum(v, w), scaled_sum(x, constant(w)), scaled_sum(v, w=v * 1.0)):
        assert isinstance(result, Tensor)
    with GradientTape() as tape:
        loss = scaled_sum(v * 2.0, w=constant(w), power=2)
    assert isinstance(loss, TensorBox)
    assert float(loss) == 76.0
    assert tape.gradient(loss, v).numpy().tolist() == [24.0, 64.0]
    assert scaled_sum.__name__ == "scaled_sum"


def test_keyword_arguments_are_traced_too() -> None:
    v, u = Variable([1.0, 2.0]), Variable([3.0, 4.0])
    with GradientTape() as tape:
        loss = scaled_sum(w=u, x=v)
    assert [g.numpy().tolist() for g in tape.gradient(loss, [v, u])] == [[3.0, 4.0], [1.0, 2.0]]


def test_primitive_can_be_differentiated_twice() -> None:
    v = Variable(np.array([1.0, 2.0]))
    with GradientTape() as outer:
        with GradientTape() as inner:
            loss = scaled_sum(v, np.array([1.0, 1.0]), power=3)
        first = inner.gradient(loss, v)
    assert outer.gradient(first, v).numpy().tolist() == [6.0, 12.0]


def test_defvjp_argnums_sees_all_traced_arguments_at_once() -> None:
    @primitive
    def product(x: Any, y: Any, z: Any) -> Any:
        return x * y * z

    asked = []

    def maker(argnums: Any, _ans: Any, args: Any, _kwargs: Any) -> Any:
        asked.append(argnums)
        x, y, z = args
        parts = (y * z, x * z, None)
        return lambda g: [None if parts[n] is None else g * parts[n] for n in argnums]

    defvjp_argnums(product, maker)
    a, b, c = Variable(2.0), Variable(3.0), Variable(4.0)
    with GradientTape() as tape:
        y = product(a, 5.0, c) + product(a, b, 1.0)
    assert [g if g is None else float(g) for g in tape.gradient(y, [a, b, c])] == [23.0, 2.0, None]
    assert asked == [(0, 2), (0, 1)]


def test_defvjp_with_argnums_and_on_other_functions() -> None:
    @primitive
    def second_only(_label: Any, x: Any) -> Any:
        return 3 * x

    defvjp(second_only, lambda _ans, _label, _x: lambda g: 3 * g, argnums=(1,))
    v = Variable(2.0)
    with GradientTape() as tape:
        y = second_only("name", v)
    assert float(tape.gradient(y, v)) == 3.0
    with pytest.raises(TypeError, match="@primitive"):
        defvjp(np.tanh, lambda ans, x: lambda g: g)


def test_derivative_of_the_wrong_shape_is_an_error() -> None:
    @primitive
    def wrong(x: Any) -> Any:
        return x * 2

    defvjp(wrong, lambda _ans, _x: lambda g: np.sum(g))
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = wrong(v)
    with pytest.raises(ValueError, match=r"shape \(\) came back for a source of shape \(2,\)"):
        tape.gradient(y, v)


def test_stop_gradient_keeps_structure_and_value() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        h = v * v
        parts = stop_gradient({"h": h, "v": [v]})
        y = v * parts["h"] + parts["v"][0]
    assert isinstance(parts["h"], Tensor)
    v_gradient = tape.gradient(y, v)
    assert v_gradient.numpy().tolist() == [1.0, 4.0]
    v.assign([0.0, 0.0])
    assert parts["v"][0].numpy().tolist() == [1.0, 2.0]
    assert stop_gradient(v).numpy().tolist() == [0.0, 0.0]


class TestCustomGradient:
    def test_gives_the_returned_gradient(self) -> None:
        @custom_gradient
        def clipped(x: Any) -> Any:
            return x * 1.0, lambda dy: np.clip(dy, -1.0, 1.0)

        v = Variable([1.0, 2.0])
        assert isinstance(clipped(v), Tensor)
        with GradientTape() as tape:
            y = clipped(v * 2.0) * constant([0.5, 10.0])
        assert y.numpy().tolist() == [1.0, 40.0]
        assert tape.gradient(y, v).numpy().tolist() == [1.0, 2.0]

    def test_several_arguments_and_results(self) -> None:
        @custom_gradient
        def both(x: Any, y: Any, sign: float = 1.0) -> Any:
            return (x * y, x + y), lambda dp, ds: (dp * y * sign + ds, None)

        v, w = Variable([1.0, 2.0]), Variable([3.0, 4.0])
        with GradientTape() as tape:
            product, total = both(v, w, sign=-1.0)
            loss = np.sum(product) + 2.0 * np.sum(total)
        first, second = tape.gradient(loss, [v, w])
        assert first.numpy().tolist() == [-1.0, -2.0]
        assert second is None

    def test_can_be_differentiated_twice(self) -> None:
        @custom_gradient
        def cube(x: Any) -> Any:
            return x * x * x, lambda dy: dy * 3.0 * x * x

        v = Variable(2.0)
        with GradientTape() as outer:
            with GradientTape() as inner:
                y = cube(v)
            dy = inner.gradient(y, v)
        assert float(dy) == 12.0
        assert float(outer.gradient(dy, v)) == 12.0

    def test_refuses_hidden_variables_and_other_results(self) -> None:
        hidden, v = Variable(2.0, name="hidden"), Variable(1.0)

        @custom_gradient
        def uses_hidden(x: Any) -> Any:
            return x * hidden, lambda dy: dy

        @custom_gradient
        def no_pair(x: Any) -> Any:
            return x

        @custom_gradient
        def too_many(x: Any) -> Any:
            return x * 1.0, lambda dy: (dy, dy)

        with GradientTape() as tape:
            with pytest.raises(TypeError, match="'hidden:0'"):
                uses_hidden(v)
            with pytest.raises(TypeError, match="must return"):
                no_pair(v)
            y = too_many(v)
        with pytest.raises(ValueError, match="2 gradients for 1 arguments"):
            tape.gradient(y, v)


class TestAutogradBesideUs:
    """Programs that use autograd itself see its behaviour, also after distopt was imported."""

    def test_its_own_functions(self) -> None:
        x = np.array([1.0, 2.0])
        f = lambda z: anp.sum(anp.tanh(z) ** 2 * z[0])  # noqa: E731
        gradient = autograd.grad(f)(x)
        t, s = np.tanh(x), 1 - np.tanh(x) ** 2
        np.testing.assert_allclose(gradient, 2 * t * s * x[0] + [np.sum(t**2), 0.0])
        assert type(gradient) is np.ndarray
        assert autograd.hessian(f)(x).shape == (2, 2)
        assert autograd.grad(lambda z: z * z)(3.0) == 6.0
        np.testing.assert_allclose(autograd.elementwise_grad(anp.sin)(x), np.cos(x))

    def test_forward_mode(self) -> None:
        x = np.array([1.0, 2.0])
        value, slope = autograd.make_jvp(lambda z: anp.exp(z) * z + z[0])(x)(np.ones(2))
        np.testing.assert_allclose(value, np.exp(x) * x + 1.0)
        np.testing.assert_allclose(slope, np.exp(x) * (x + 1) + 1.0)

    def test_inside_a_tape(self) -> None:
        v = Variable(np.array([1.0, 2.0]))
        with GradientTape() as tape:
            inner = autograd.grad(lambda z: np.sum(z**3 * v))(np.array([1.0, 3.0]))
        np.testing.assert_allclose(inner.numpy(), [3.0, 54.0])
        np.testing.assert_allclose(tape.gradient(inner, v).numpy(), [3.0, 27.0])

    def test_mixed_with_variables_in_one_call(self) -> None:
        v, w = Variable([1.0, 2.0]), Variable([1.0, 1.0])
        with GradientTape() as tape:
            assert isinstance(anp.tanh(v), TensorBox)
            h = v * 2.0
            with pytest.raises(TypeError, match=r"not autograd\.numpy\.multiply|use numpy's own"):
                anp.outer(w, h)
            y = np.sum(h)
        assert tape.gradient(y, v).numpy().tolist() == [2.0, 2.0]

    def test_its_traced_values_are_not_lost_silently(self) -> None:
        v = Variable([1.0, 2.0])
        with pytest.raises(TypeError, match="traced by a function of autograd"):
            autograd.grad(lambda z: np.sum(v * z))(np.ones(2))

"""Opening, nesting, pausing and closing tapes."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from distopt.autodiff import GradientTape, primitive
from distopt.core import Tensor, Variable, constant


def test_second_and_third_derivatives_by_nested_tapes() -> None:
    x = Variable(2.0)
    with GradientTape() as third:
        with GradientTape() as second:
            with GradientTape() as first:
                y = x**4 + np.exp(x)
            dy = first.gradient(y, x)
        d2y = second.gradient(dy, x)
    d3y = third.gradient(d2y, x)
    e = np.exp(np.float32(2.0))
    np.testing.assert_allclose([float(dy), float(d2y), float(d3y)], [32 + e, 48 + e, 48 + e], rtol=1e-6)


def test_outer_tape_follows_a_tensor_that_the_inner_one_watches_too() -> None:
    x = constant(3.0)
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            y = x * x * x
        dy = inner.gradient(y, x)
    assert float(dy) == 27.0
    assert float(outer.gradient(dy, x)) == 18.0


def test_inner_tape_watching_a_value_of_the_outer_one() -> None:
    v = Variable(2.0)
    with GradientTape(persistent=True) as outer:
        h = v * v
        with GradientTape() as inner:
            inner.watch(h)
            y = h * h * h
        dh = inner.gradient(y, h)
    assert float(dh) == 48.0
    assert float(outer.gradient(dh, v)) == 96.0  # d(3 v^4)/dv
    assert float(outer.gradient(y, v)) == 192.0  # d(v^6)/dv


def test_gradient_in_an_outer_tape_only() -> None:
    v, w = Variable(2.0), Variable(3.0)
    with GradientTape() as outer:
        with GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(w)
            y = v * v * w * w
        dw = inner.gradient(y, w)
        penalty = dw * dw
    assert float(outer.gradient(penalty, v)) == pytest.approx(2 * 24 * 2 * 2 * 2 * 3)


def test_a_tape_does_not_differentiate_its_own_gradient_silently() -> None:
    x = Variable(3.0)
    with GradientTape(persistent=True) as tape:
        y = x * x
        dy = tape.gradient(y, x)
        assert float(dy) == 6.0
    with pytest.raises(RuntimeError, match="second tape"):
        tape.gradient(dy, x)


def test_stop_recording() -> None:
    v = Variable(3.0)
    with GradientTape(persistent=True) as tape:
        y = v * v
        with tape.stop_recording():
            hidden = y * v
        z = y + hidden
    assert isinstance(hidden, Tensor)
    assert float(tape.gradient(z, v)) == 6.0
    with pytest.raises(ValueError, match="not recording"), tape.stop_recording():
        pass


def test_stop_recording_of_the_outer_tape_only() -> None:
    v = Variable(3.0)
    with GradientTape() as outer, GradientTape() as inner, outer.stop_recording():
        y = v * v
    assert float(inner.gradient(y, v)) == 6.0
    assert outer.gradient(y, v) is None


def test_reset_forgets_and_goes_on() -> None:
    v, w = Variable(3.0), Variable(4.0)
    with GradientTape() as tape:
        y = v * v
        tape.reset()
        z = w * w + y
    assert tape.watched_variables() == (w,)
    assert [g if g is None else float(g) for g in tape.gradient(z, [v, w])] == [None, 8.0]


def test_entering_an_open_tape_is_an_error_and_a_closed_one_goes_on() -> None:
    v = Variable(3.0)
    tape = GradientTape(persistent=True)
    with tape:
        y = v * v
        with pytest.raises(ValueError, match="already recording"):
            tape.__enter__()
    with tape:
        z = y * v
    assert float(tape.gradient(z, v)) == 27.0
    once = GradientTape()
    for _ in range(2):
        with once:
            y = v * v
        assert float(once.gradient(y, v)) == 6.0


def test_continuing_inside_a_younger_tape_is_refused() -> None:
    v = Variable(1.0)
    old = GradientTape(persistent=True)
    with old:
        v * v
    with GradientTape(), pytest.raises(ValueError, match="reset"):
        old.__enter__()


def test_values_outlive_their_tape_as_plain_ones() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = v * v
    z = np.tanh(y) * 2.0
    assert isinstance(z, Tensor)
    with GradientTape() as other:
        w = y * v
    assert other.gradient(w, v).numpy().tolist() == [1.0, 4.0]
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]


def test_an_exception_in_the_block_closes_the_tape() -> None:
    v = Variable(1.0)
    with pytest.raises(ZeroDivisionError), GradientTape():
        np.sum(v * v) / (1 // 0)
    assert isinstance(v * v, Tensor)


def test_threads_have_tapes_of_their_own() -> None:
    shared = Variable(np.full(4, 2.0))
    barrier = threading.Barrier(4, timeout=20)
    results: dict[int, Any] = {}

    def replica(number: int) -> None:
        own = Variable(np.full(4, float(number)))
        for _ in range(20):
            with GradientTape() as outer:
                barrier.wait()
                with GradientTape() as inner:
                    y = np.sum(shared * own * own)
                    barrier.wait()
                first = inner.gradient(y, [shared, own])
                barrier.wait()
                z = np.sum(first[1] * own)
            second = outer.gradient(z, own)
            results[number] = (first[0].numpy(), first[1].numpy(), second.numpy())

    threads = [threading.Thread(target=replica, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n in range(1, 5):
        np.testing.assert_array_equal(results[n][0], np.full(4, n * n))
        np.testing.assert_array_equal(results[n][1], np.full(4, 4.0 * n))
        np.testing.assert_array_equal(results[n][2], np.full(4, 8.0 * n))


def test_gradient_frees_the_graph_of_a_tape_that_is_not_persistent() -> None:
    class Watched(np.ndarray):
        pass

    kept: list[weakref.ref[Any]] = []

    @primitive
    def remembers(x: Any) -> Any:
        return x * 1.0

    from distopt.autodiff import defvjp

    def maker(ans: Any, x: Any) -> Any:
        burden = np.ones(3).view(Watched)
        kept.append(weakref.ref(burden))
        return lambda g: g * np.asarray(burden)[0]

    defvjp(remembers, maker)
    v = Variable([1.0])
    with GradientTape() as tape:
        y = remembers(v)
    assert kept[0]() is not None
    tape.gradient(y, v)
    gc.collect()
    assert kept[0]() is None
    assert float(y[0]) == 1.0

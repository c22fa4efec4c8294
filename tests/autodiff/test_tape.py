"""GradientTape: what it watches, what it gives, and what it refuses."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from distopt.autodiff import GradientTape, UnconnectedGradients, gather, primitive, stop_gradient
from distopt.autodiff.boxes import TensorBox
from distopt.core import IndexedSlices, Tensor, Variable, constant


def test_nested_sources_come_back_in_their_structure() -> None:
    a, b, c = Variable(2.0, name="a"), Variable([1.0, 2.0]), Variable(5.0)
    with GradientTape() as tape:
        loss = a * np.sum(b * b)
    result = tape.gradient(loss, {"first": [a, (b,)], "rest": c})
    assert float(result["first"][0]) == 5.0
    assert result["first"][1][0].numpy().tolist() == [4.0, 8.0]
    assert result["rest"] is None
    assert isinstance(result["first"], list)
    assert isinstance(result["first"][1], tuple)


def test_gradients_are_tensors_of_the_sources_dtype_and_do_not_follow_later_changes() -> None:
    v = Variable(np.ones(3, np.float32))
    with GradientTape() as tape:
        loss = np.sum(v * np.arange(3.0))  # float64 from the array
    gradient = tape.gradient(loss, v)
    assert loss.dtype == np.float64
    assert isinstance(gradient, Tensor)
    assert gradient.dtype == np.float32
    v.assign([7.0, 7.0, 7.0])
    assert gradient.numpy().tolist() == [0.0, 1.0, 2.0]


def test_a_gradient_that_is_the_variable_itself_is_a_copy() -> None:
    v, w = Variable([1.0, 2.0]), Variable([3.0, 4.0])
    with GradientTape() as tape:
        loss = np.dot(v, w)
    gradient = tape.gradient(loss, v)
    w.assign([0.0, 0.0])
    assert gradient.numpy().tolist() == [3.0, 4.0]


def test_targets_are_summed_elements_and_structures() -> None:
    v = Variable([1.0, 2.0, 3.0])
    with GradientTape(persistent=True) as tape:
        y, z = v * v, 3.0 * v
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0, 6.0]
    assert tape.gradient([y, {"z": z}], v).numpy().tolist() == [5.0, 7.0, 9.0]
    assert tape.gradient([y, y], v).numpy().tolist() == [4.0, 8.0, 12.0]


def test_output_gradients_weigh_the_elements() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape(persistent=True) as tape:
        y, z = v * v, 3.0 * v
    assert tape.gradient(y, v, output_gradients=[1.0, 10.0]).numpy().tolist() == [2.0, 40.0]
    both = tape.gradient([y, z], v, output_gradients=[constant([1.0, 0.0]), None])
    assert both.numpy().tolist() == [5.0, 3.0]
    with pytest.raises(ValueError, match=r"shape \(2,\); got \(3,\)"):
        tape.gradient(y, v, output_gradients=np.ones(3))
    with pytest.raises(ValueError, match="1 output_gradients were given for 2 targets"):
        tape.gradient([y, z], v, output_gradients=[constant([1.0, 0.0])])


def test_unconnected_sources_are_none_or_zeros() -> None:
    v, w = Variable([1.0, 2.0]), Variable(np.ones((2, 2), np.float32))
    with GradientTape(persistent=True) as tape:
        y = v * v
        frozen = stop_gradient(v) * 2.0
    assert tape.gradient(y, w) is None
    assert tape.gradient(frozen, v) is None
    zeros = tape.gradient(y, w, unconnected_gradients="zero")
    assert zeros.numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert zeros.dtype == np.float32
    assert tape.gradient(y, [w], unconnected_gradients=UnconnectedGradients.ZERO)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="'none' or 'zero'; got 'nil'"):
        tape.gradient(y, w, unconnected_gradients="nil")


def test_one_gradient_unless_persistent() -> None:
    v = Variable(3.0)
    with GradientTape() as tape:
        y = v * v
    assert float(tape.gradient(y, v)) == 6.0
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(y, v)
    with GradientTape(persistent=True) as tape:
        y = v * v
        z = y * y
    assert float(tape.gradient(z, v)) == 108.0
    assert float(tape.gradient(y, v)) == 6.0
    assert float(tape.gradient(z, y)) == 18.0


def test_gradient_inside_the_block_ends_recording() -> None:
    v = Variable(3.0)
    with GradientTape() as tape:
        y = v * v
        assert float(tape.gradient(y, v)) == 6.0
        later = v * 2.0
    assert isinstance(later, Tensor)


def test_only_watched_variables_are_followed() -> None:
    v = Variable(3.0)
    frozen = Variable(2.0, trainable=False)
    with GradientTape() as tape:
        y = v * frozen
    assert tape.watched_variables() == (v,)
    assert [g if g is None else float(g) for g in tape.gradient(y, [v, frozen])] == [2.0, None]
    with GradientTape() as tape:
        tape.watch(frozen)
        y = v * frozen
    assert tape.watched_variables() == (frozen, v)
    assert float(tape.gradient(y, frozen)) == 3.0
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(frozen)
        y = v * frozen
    assert tape.watched_variables() == (frozen,)
    assert [g if g is None else float(g) for g in tape.gradient(y, [v, frozen])] == [None, 3.0]


def test_watching_after_the_first_use_counts_from_then_on() -> None:
    v = Variable(3.0)
    with GradientTape(watch_accessed_variables=False) as tape:
        y = v * 1.0
        tape.watch(v)
        y = y + v * v
    assert float(tape.gradient(y, v)) == 6.0


def test_tensors_are_watched_by_identity() -> None:
    x, same = constant([1.0, 2.0]), constant([1.0, 2.0])
    with GradientTape(persistent=True) as tape:
        tape.watch([x])
        y = np.sum(x * x * same)
    assert tape.gradient(y, x).numpy().tolist() == [2.0, 8.0]
    assert tape.gradient(y, same) is None


def test_watch_refuses_arrays_and_ignores_integers(caplog: pytest.LogCaptureFixture) -> None:
    with GradientTape() as tape:
        with pytest.raises(TypeError, match=r"distopt\.constant"):
            tape.watch(np.ones(2))
        with pytest.raises(TypeError, match="float"):
            tape.watch([1.0])
        count = Variable(np.arange(3))
        tape.watch(count)
        y = count * 2.0
    assert "int64" in caplog.text
    assert tape.gradient(y, count) is None


def test_plain_arrays_are_no_targets_and_no_sources() -> None:
    v = Variable(1.0)
    with GradientTape(persistent=True) as tape:
        y = v * v
    with pytest.raises(TypeError, match="source of type ndarray"):
        tape.gradient(y, np.ones(1))
    with pytest.raises(TypeError, match="target of type float"):
        tape.gradient(1.0, v)
    assert tape.gradient(constant(1.0), v) is None


def test_intermediate_values_are_sources() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        h = v * v
        y = np.sum(h * h)
    got = tape.gradient(y, [h, v])
    assert got[0].numpy().tolist() == [2.0, 8.0]
    assert got[1].numpy().tolist() == [4.0, 32.0]


def test_one_value_used_often_gets_the_sum() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = v + v + v * 2.0 + v[0] + v[::-1] + v[[0, 0]]
    assert tape.gradient(y, v).numpy().tolist() == [9.0, 5.0]


def test_cotangents_shared_by_functions_are_not_written_over() -> None:
    a, b = Variable([1.0, 1.0]), Variable([1.0, 1.0])
    with GradientTape(persistent=True) as tape:
        s = a + b  # one array is the cotangent of both
        y = s + a + a
    ones = np.ones(2, np.float32)
    first, second = tape.gradient(y, [a, b], output_gradients=ones)
    assert first.numpy().tolist() == [3.0, 3.0]
    assert second.numpy().tolist() == [1.0, 1.0]
    assert ones.tolist() == [1.0, 1.0]


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
        with pytest.raises(ValueError, match="recording already"):
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


class TestAssignments:
    def test_between_use_and_gradient_is_an_error_naming_the_variable(self) -> None:
        v = Variable(3.0, name="kernel")
        with GradientTape() as tape:
            y = v * v
        v.assign(1.0)
        with pytest.raises(RuntimeError, match=r"'kernel:0' was assigned .*persistent=True"):
            tape.gradient(y, [v])

    def test_of_variables_that_the_target_does_not_use_do_not_matter(self) -> None:
        v, other = Variable(3.0), Variable(1.0)
        with GradientTape() as tape:
            y = v * v
            other * 2.0
        other.assign(5.0)
        assert float(tape.gradient(y, v)) == 6.0

    def test_persistent_tapes_keep_copies(self) -> None:
        v = Variable(3.0)
        with GradientTape(persistent=True) as tape:
            y = v * v
            v.assign(10.0)
            z = y * v  # 9 * 10, through both values
        v.assign(0.0)
        assert float(tape.gradient(y, v)) == 6.0
        assert float(tape.gradient(z, v)) == 69.0

    def test_constants_keep_their_value(self) -> None:
        v, mean = Variable([1.0, 2.0]), Variable([3.0, 4.0], trainable=False)
        with GradientTape() as tape:
            y = v * mean
            mean.assign(mean * 0.5 + v * 0.5)
            y = y + v * mean
        mean.assign([0.0, 0.0])
        assert tape.gradient(y, v).numpy().tolist() == [5.0, 7.0]

    def test_values_seen_by_the_user_are_snapshots(self) -> None:
        v = Variable(np.arange(6.0))
        with GradientTape():
            views = [v.reshape(2, 3), v[1:], v.T]
        v.assign(np.zeros(6))
        assert [float(np.max(view)) for view in views] == [5.0, 5.0, 5.0]

    def test_of_a_traced_value(self) -> None:
        v, w = Variable([1.0, 2.0]), Variable([0.0, 0.0])
        with GradientTape():
            w.assign(v * 2.0)
        assert w.numpy().tolist() == [2.0, 4.0]


def test_values_behave_as_tensors_under_a_tape() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape():
        y = v * 2.0
        y += 1.0
        assert isinstance(y, TensorBox)
        assert y.shape == (2,)
        assert y.dtype == np.float32
        assert len(y) == 2
        assert y.numpy().tolist() == [3.0, 5.0]
        assert np.asarray(y).tolist() == [3.0, 5.0]
        assert float(np.sum(y)) == 8.0
        assert bool(np.sum(y) > 7)
        assert isinstance(y > 4, Tensor)
        assert np.argmax(y).numpy() == 1
        assert "numpy=[3., 5.]" in repr(y)
        assert f"{np.sum(y):.1f}" == "8.0"


def test_integer_results_are_not_followed() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = v * np.astype(v * 2.0, np.int32) + v.astype("int64").astype("float32")
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]


def test_casts_carry_gradients_back_in_the_old_dtype() -> None:
    v = Variable(np.ones(2, np.float32))
    with GradientTape() as tape:
        y = v.astype(np.float64) * np.array([1.0, 1e-3])
    gradient = tape.gradient(y, v)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient.numpy(), np.array([1.0, 1e-3], np.float32))


def test_complex_values_have_real_gradients_for_real_sources() -> None:
    v = Variable([1.0, 2.0])
    with GradientTape() as tape:
        y = np.sum(np.abs(np.fft.fft(v)) ** 2)
    np.testing.assert_allclose(tape.gradient(y, v).numpy(), [4.0, 8.0], rtol=1e-6)


def test_jacobian() -> None:
    v, w = Variable(np.arange(1.0, 4.0)), Variable(2.0)
    with GradientTape() as tape:
        y = np.stack([v * v, v[::-1] * 3.0])
    rows = tape.jacobian(y, [v, w], unconnected_gradients="zero")
    assert rows[0].shape == (2, 3, 3)
    np.testing.assert_array_equal(rows[0].numpy()[0], np.diag([2.0, 4.0, 6.0]))
    np.testing.assert_array_equal(rows[0].numpy()[1], 3.0 * np.eye(3)[::-1])
    assert rows[1].shape == (2, 3)
    with pytest.raises(RuntimeError):
        tape.jacobian(y, v)


def test_jacobian_of_a_gradient_is_the_hessian() -> None:
    v = Variable(np.array([1.0, 2.0]))
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = v[0] ** 2 * v[1] ** 3
        gradient = inner.gradient(y, v)
    np.testing.assert_allclose(outer.jacobian(gradient, v).numpy(), [[16.0, 24.0], [24.0, 12.0]])


class TestSparse:
    def test_gather_gives_slices_with_duplicates(self) -> None:
        table = Variable(np.ones((4, 2), np.float32))
        with GradientTape() as tape:
            rows = gather(table, constant([[1, 3], [1, 0]]))
            y = np.sum(rows * np.arange(8.0, dtype=np.float32).reshape(2, 2, 2))
        gradient = tape.gradient(y, table)
        assert isinstance(gradient, IndexedSlices)
        assert rows.shape == (2, 2, 2)
        assert gradient.shape == (4, 2)
        assert np.asarray(gradient.indices).tolist() == [1, 3, 1, 0]
        assert gradient.to_dense().tolist() == [[6.0, 7.0], [4.0, 6.0], [0.0, 0.0], [2.0, 3.0]]

    def test_several_lookups_are_joined_and_dense_use_makes_all_dense(self) -> None:
        table = Variable(np.ones((3, 1)))
        with GradientTape(persistent=True) as tape:
            twice = np.sum(gather(table, [0])) + np.sum(gather(table, [2, 0]) * 2.0)
            dense = twice + np.sum(table * 10.0)
        joined = tape.gradient(twice, table)
        assert isinstance(joined, IndexedSlices)
        assert sorted(np.asarray(joined.indices).tolist()) == [0, 0, 2]
        assert joined.to_dense().tolist() == [[3.0], [0.0], [2.0]]
        assert tape.gradient(dense, table).numpy().tolist() == [[13.0], [10.0], [12.0]]

    def test_lookup_in_a_computed_table_is_dense_at_the_variable(self) -> None:
        table = Variable(np.ones((3, 1)))
        with GradientTape() as tape:
            y = np.sum(gather(table * 2.0, [1, 1]))
        assert tape.gradient(y, table).numpy().tolist() == [[0.0], [4.0], [0.0]]

    def test_unused_table_is_none_and_eager_is_plain(self) -> None:
        table = Variable(np.eye(3))
        with GradientTape() as tape:
            y = gather(stop_gradient(table), [0])
        assert tape.gradient(y, table) is None
        assert isinstance(gather(table, [2]), Tensor)
        assert gather(np.eye(3), 1).numpy().tolist() == [0.0, 1.0, 0.0]

    @pytest.mark.parametrize(("indices", "error", "text"), [
        ([0, 3], ValueError, "index 3; params has 3 rows"),
        ([-1], ValueError, "index -1"),
        ([0.5], TypeError, "float64"),
    ])  # fmt: skip
    def test_bad_indices(self, indices: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            gather(Variable(np.eye(3)), np.array(indices))


class TestErrors:
    def test_function_without_derivative_is_named_when_the_gradient_is_asked(self) -> None:
        v = Variable([3.0, 1.0, 2.0])
        with GradientTape() as tape:
            middle = np.median(v)
        assert float(middle) == 2.0
        with pytest.raises(NotImplementedError, match="median has no derivative"):
            tape.gradient(middle, v)

    def test_lists_in_functions_that_take_none(self) -> None:
        v = Variable([3.0, 1.0])
        with (
            GradientTape(),
            pytest.raises(TypeError, match=r"block cannot be followed .* numpy\.concatenate"),
        ):
            np.block([v * 1.0, v * 2.0])

    def test_reductions_of_other_ufuncs(self) -> None:
        v = Variable([3.0, 1.0])
        with GradientTape(), pytest.raises(TypeError, match=r"numpy\.logaddexp\.reduce cannot be followed"):
            np.logaddexp.reduce(v)

    def test_primitive_without_derivative(self) -> None:
        @primitive
        def halved(x: Any) -> Any:
            return x / 2

        v = Variable([3.0, 1.0])
        with GradientTape() as tape:
            y = halved(v)
        with pytest.raises(NotImplementedError, match="halved has no derivative"):
            tape.gradient(y, v)

    def test_traced_keyword_without_a_place(self) -> None:
        v = Variable([3.0, 1.0])
        with GradientTape() as tape:
            by_name = np.sum(a=v * v)
            with pytest.raises(TypeError, match=r"clip\(max=\.\.\.\)"):
                np.clip(np.ones(2), max=v)
        assert tape.gradient(by_name, v).numpy().tolist() == [6.0, 2.0]


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

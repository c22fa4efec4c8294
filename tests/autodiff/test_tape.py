"""GradientTape: the gradients that it gives, and what it refuses."""

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

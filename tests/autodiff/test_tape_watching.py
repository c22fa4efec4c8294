"""What a tape watches, and what assigning to a variable that it read does."""

import numpy as np
import pytest

from distopt.autodiff import GradientTape
from distopt.core import Variable, constant


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

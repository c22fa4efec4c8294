"""NumPy's floating-point warnings point at the line of the program."""

import inspect
import warnings

import numpy as np
import pytest

import distopt as tf


def line(here=None):
    return inspect.currentframe().f_back.f_lineno


def caught(function):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    return [(w.filename, w.lineno, str(w.message)) for w in found]


X = tf.Variable([0.0])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: tf.math.log(X), "divide by zero encountered in log"),
        (lambda: tf.math.sqrt(X - 1.0), "invalid value encountered in sqrt"),
        (lambda: np.log(X), "divide by zero encountered in log"),
        (lambda: 1.0 / X, "divide by zero encountered in divide"),
        (lambda: X / X, "invalid value encountered in divide"),
        (lambda: tf.math.exp(X + 1000.0), "overflow encountered in exp"),
        (lambda: tf.math.pow(X, -1.0), "divide by zero encountered in power"),
    ],
)
def test_eager_operations(function, text):
    assert caught(function) == [(__file__, function.__code__.co_firstlineno, text)]


def test_in_a_tape_and_in_its_gradient():
    lines = []

    def program():
        with tf.GradientTape() as tape:
            root, lines[:] = tf.math.sqrt(X), [line()]
            y, second = tf.math.log(X) + root, line()
        tape.gradient(y, X)
        lines.extend([second, line() - 1])

    found = caught(program)
    assert {entry[0] for entry in found} == {__file__}
    assert sorted({number for _, number, _ in found}) == sorted(lines[1:])
    assert {text for _, number, text in found if number == lines[2]} == {
        "divide by zero encountered in the gradient"
    }


def test_a_step_from_a_loss():
    v, optimizer = tf.Variable([0.0]), tf.optimizers.SGD(0.1)
    found = caught(lambda: optimizer.minimize(lambda: tf.math.sqrt(v), [v]))
    assert [entry[0] for entry in found] == [__file__]


@pytest.mark.parametrize("mode", ["ignore", "raise"])
def test_what_numpy_was_told_stays_in_force(mode):
    with np.errstate(divide=mode):
        if mode == "ignore":
            assert caught(lambda: tf.math.log(X)) == []
        else:
            with pytest.raises(FloatingPointError, match="log"):
                tf.math.log(X)
        assert np.geterr()["divide"] == mode


def test_modes_are_put_back():
    before = np.geterr(), np.geterrcall()
    caught(lambda: tf.math.log(X))
    assert (np.geterr(), np.geterrcall()) == before

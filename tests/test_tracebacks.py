"""Tracebacks hold the program's own lines."""

import pytest

import distopt as tf
from distopt.tracebacks import format_error


def raised(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


def wrong_shape():
    tf.optimizers.SGD(0.1).apply_gradients([([1.0, 2.0], tf.Variable([1.0], name="w"))])


def raising_aggregator(pairs):
    raise LookupError("of the aggregator")


def step_with_aggregator():
    optimizer = tf.optimizers.SGD(0.1, gradient_aggregator=raising_aggregator)
    optimizer.apply_gradients([([1.0], tf.Variable([1.0]))])


def functions(text):
    return [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File ")]


def test_frames_inside_are_left_out():
    error = raised(wrong_shape)
    text = format_error(error)
    assert functions(text) == ["raised", "wrong_shape"]
    assert text.startswith("(")
    assert "DISTOPT_DEBUG=1" in text.splitlines()[0]
    assert text.splitlines()[-1] == f"ValueError: {error}"


def test_frames_of_the_program_below_distopt_stay():
    assert functions(format_error(raised(step_with_aggregator))) == [
        "raised",
        "step_with_aggregator",
        "raising_aggregator",
    ]


def test_frames_of_libraries_stay_where_the_program_called_them():
    text = format_error(raised(lambda: __import__("json").loads("{")))
    assert "decoder.py" in text
    assert "left out" not in text


def test_causes_are_shortened_too():
    def program():
        try:
            wrong_shape()
        except ValueError as error:
            raise RuntimeError("of the program") from error

    text = format_error(raised(program))
    assert functions(text) == ["program", "wrong_shape", "raised", "program"]
    assert "direct cause" in text


def test_debug_shows_all(monkeypatch):
    monkeypatch.setenv("DISTOPT_DEBUG", "1")
    text = format_error(raised(wrong_shape))
    assert "apply_gradients" in functions(text)
    assert "left out" not in text


def test_an_error_without_frames_of_the_program():
    error = raised(wrong_shape)
    inner = error.__traceback__
    while inner.tb_next is not None:
        inner = inner.tb_next
    assert format_error(error, inner).splitlines()[1:] == [f"ValueError: {error}"]

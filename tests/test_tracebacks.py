"""Tracebacks hold the program's own lines."""

import sys
import types

import pytest

import distopt as tf
from distopt.collectives import user_call
from distopt.tracebacks import format_error, report_error


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


def test_an_error_without_frames_of_the_program():
    error = raised(wrong_shape)
    inner = error.__traceback__
    while inner.tb_next is not None:
        inner = inner.tb_next
    assert format_error(error, inner) == f"ValueError: {error}\n"


def test_the_report_says_how_to_see_all(capsys):
    report_error(raised(wrong_shape))
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("frames inside distopt left out; DISTOPT_DEBUG=1 shows them)")
    assert second == "Traceback (most recent call last):"
    report_error(raised(lambda: {}["a"]))
    assert capsys.readouterr().err.startswith("Traceback")


def test_places_in_notebooks_name_the_cell(monkeypatch):
    class Compiler:
        def format_code_name(self, file):
            return ("Cell", "In[3]") if file.endswith("40155818.py") else None

    shell = types.SimpleNamespace(compile=Compiler())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    names = {"user_call": user_call}
    exec(compile("\nplace = user_call()", "/tmp/ipykernel_1/40155818.py", "exec"), names)
    assert names["place"] == ("", "cell In[3], line 2")
    assert user_call()[1].startswith("test_tracebacks.py:")


def test_places_name_the_call_of_the_program():
    def program():
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
        model.compile("sgd", "mse")
        if rank:
            model.save_weights("w.npz")
        else:
            model.fit([[0.0, 0.0]] * 2, [[0.0]] * 2, verbose=0)

    with pytest.raises(tf.errors.ReplicaMismatch) as caught:
        tf.distribute.VirtualStrategy(2).run(program)
    text = str(caught.value)
    assert "replica 0: fit() at test_tracebacks.py:" in text
    assert "replica 1: save_weights() at test_tracebacks.py:" in text

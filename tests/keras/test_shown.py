"""What is shown of a training: the bar under the launcher and in notebooks, once; pictures in notebooks."""

import sys
import types

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(32, 2)


def fitted(**options):
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    return model.fit(X, X.sum(1, keepdims=True), batch_size=8, **options)


def notebook(monkeypatch):
    shell = types.SimpleNamespace(ZMQInteractiveShell=types.SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shell)


def launcher(monkeypatch):
    monkeypatch.setenv("DISTOPT_LAUNCH_TTY", "1")


@pytest.mark.parametrize("place", [launcher, notebook])
def test_a_bar_where_a_pipe_ends_at_a_screen(place, monkeypatch, capsys):
    pytest.importorskip("rich")
    place(monkeypatch)
    fitted(epochs=2)
    lines = capsys.readouterr().out.splitlines(keepends=True)
    finished = [line for line in "".join(lines).split("\n") if line]
    assert len(finished) == 2
    for number, line in enumerate(finished, 1):
        states = line.split("\r")[1:]
        assert all(state.startswith(f"Epoch {number}/2 ") for state in states)
        assert "4/4" in states[-1]
        assert "examples/s on 1 replica" in states[-1]


def test_lines_where_nobody_sees_it_move(capsys):
    fitted(epochs=2)
    text = capsys.readouterr().out
    assert "\r" not in text
    assert [line.split("  ")[0] for line in text.splitlines()] == ["Epoch 1/2", "Epoch 2/2"]


def test_a_bar_given_by_hand_takes_the_place_of_the_shipped_one(capsys):
    fitted(callbacks=[keras.callbacks.ProgressBar(verbose=2)])
    assert len(capsys.readouterr().out.splitlines()) == 1
    fitted(callbacks=keras.callbacks.ProgressBar(verbose=0))
    assert capsys.readouterr().out == ""


def test_curves_show_themselves_in_notebooks():
    pytest.importorskip("matplotlib")
    figure = fitted(verbose=0).plot()
    assert figure._repr_png_().startswith(b"\x89PNG\r\n")


def test_replicas_of_a_notebook_return_one_history():
    (history, other) = VirtualStrategy(2).run(lambda: (fitted(verbose=0, epochs=2), fitted(verbose=0)))
    assert history.epoch == [0, 1]
    assert other.epoch == [0]
    assert history != other

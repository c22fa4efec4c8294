"""One script under several layouts, and recordings of what its steps did."""

import subprocess
import sys

import numpy as np
import pytest

from distopt.testing import compare, layouts
from distopt.trace import FILE, StepRecord, StepRecorder, read

SCRIPT = """
import sys
import numpy as np
import distopt as tf
context = tf.distribute.get_replica_context()
replica = context.replica_id_in_sync_group
v = tf.Variable(np.ones((5, 3), "f4"), name="v")
w = tf.Variable(np.ones(2, "f4"), name="w", constraint=lambda x: np.clip(x, 0, 1))
table = tf.Variable(np.ones((4, 2), "f4"), name="table")
optimizer = tf.optimizers.Adam(0.1)
for step in range(3):
    random = tf.random.stream(1, step)
    g = random.normal(size=(5, 3)).astype("f4")
    if "spoil" in sys.argv and step == 1 and replica == 0 and context.world.local.size == 1:
        g[2, 1] += 1
    if "fail" in sys.argv and context.world.local.size == 1:
        raise ValueError("only in processes")
    rows = tf.IndexedSlices(random.normal(size=(3, 2)).astype("f4"), random.integers(4, size=3), (4, 2))
    optimizer.apply_gradients([(g, v), (g[0, :2], w), (rows, table)])
"""


def record(step, **values):
    return StepRecord(step, tuple(values), tuple(np.array(v, "f4") for v in values.values()))


def test_layouts_that_divide():
    assert [str(n) for n in layouts.layouts_of(8)] == ["1x8", "2x4", "4x2", "8x1"]
    assert [str(n) for n in layouts.layouts_of(6)] == ["1x6", "2x3", "6x1"]
    assert [str(n) for n in layouts.layouts_of(1)] == ["1x1"]


def test_the_scripts_words_keep_their_order():
    words = ["--timeout=5", "s.py", "--epochs", "2", "--replicas", "8", "x", "--", "--layouts", "y"]
    own, script = layouts._split(words)
    assert own == ["--timeout=5", "--replicas", "8"]
    assert script == ["s.py", "--epochs", "2", "x", "--layouts", "y"]


def test_a_recording_is_read_as_it_was_written(tmp_path):
    recorder = StepRecorder(str(tmp_path / "new"))
    recorder.write([("a:0", np.array([1.0, 2.0], "f4")), ("b:0", np.zeros((0, 3)))])
    recorder.write([("a:0", np.array([5.0, np.nan], "f4")), ("c:0", np.array(3, "f2"))])
    first, second = read(str(tmp_path / "new"))
    assert (first.step, first.names, second.step, second.names) == (1, ("a:0", "b:0"), 2, ("a:0", "c:0"))
    assert first.values[0].tolist() == [1.0, 2.0]
    assert (first.values[1].shape, first.values[1].dtype) == ((0, 3), np.float64)
    assert (second.values[1].dtype, float(second.values[1])) == (np.float16, 3.0)
    whole = (tmp_path / "new" / FILE).read_bytes()
    (tmp_path / "new" / FILE).write_bytes(whole[:-1])  # a job that was killed while it wrote
    assert [r.step for r in read(str(tmp_path / "new"))] == [1]


def test_where_recordings_diverge():
    one = [record(1, a=[1, 2], b=[[1, 2], [3, 4]]), record(2, a=[1, 2], b=[[1, 2], [3, 4]])]
    two = [one[0], record(2, a=[1, 2], b=[[1, 2], [3, 5]])]
    assert compare.first_divergence(one, one) is None
    found = compare.first_divergence(one, two)
    assert (found.step, found.variable, found.index, found.values) == (2, "b", (1, 1), (4.0, 5.0))
    assert str(found) == "step 2, variable 'b', index (1, 1): 5.0 instead of 4.0"
    assert "the second ended after 1 steps" in str(compare.first_divergence(one, one[:1]))
    assert "other variables" in str(compare.first_divergence(one[:1], [record(1, a=[1, 2])]))
    assert compare.first_divergence([record(1, a=np.nan)], [record(1, a=np.nan)]) is None
    assert compare.first_divergence([record(1, a=0.0)], [record(1, a=-0.0)]).index == ()


def test_the_final_state_is_that_of_the_last_values():
    steps, state = compare.final_state([record(1, a=[1, 2], b=3), record(2, a=[5, 6])])
    assert steps == 2
    assert state == compare.final_state([record(2, b=3, a=[5, 6])])[1]
    assert state != compare.final_state([record(2, b=3, a=[5, 7])])[1]


def command(tmp_path, *words):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "distopt.testing.layouts", str(script), *words],
        capture_output=True,
        text=True,
        timeout=200,
        env=None,
    )


@pytest.mark.launches
@pytest.mark.parametrize(
    "expected", [("1x2", "2x1"), pytest.param(("1x4", "2x2", "4x1"), marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_layouts_agree(tmp_path, expected):
    done = command(tmp_path, "--replicas", expected[0][-1])
    assert done.returncode == 0, done.stdout + done.stderr
    for layout in expected:
        assert layout in done.stdout
    assert done.stdout.count("agrees") == len(expected) - 1


@pytest.mark.launches
@pytest.mark.slow
def test_where_layouts_diverge(tmp_path):
    done = command(tmp_path, "--replicas", "2", "--layouts", "1x2,2x1", "spoil")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2x1 diverges from 1x2 at step 2, variable 'v:0', index (2, 1): " in done.stdout


@pytest.mark.slow
@pytest.mark.launches
def test_a_layout_that_fails(tmp_path):
    done = command(tmp_path, "--replicas", "2", "fail")
    assert done.returncode == 2
    assert "--- 2x1 ended with exit code 1" in done.stderr
    assert "ValueError: only in processes" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--replicas", "2", "--layouts", "2x2"], "2x2 are not 2 replicas"),
        (["--layouts", "2"], "not a layout such as 2x4"),
    ],
)
def test_wrong_words(capsys, words, text):
    with pytest.raises(SystemExit) as left:
        layouts.main([__file__, *words])
    assert left.value.code == 2
    assert text in capsys.readouterr().err


FIT = """
import numpy as np
from distopt import keras
rng = np.random.default_rng(0)
x = rng.normal(size=(44, 6)).astype("f4")  # the last batch is uneven
y = rng.integers(0, 3, 44)
model = keras.Sequential([
    keras.layers.Dense(8, activation="relu", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
    keras.layers.Dense(3, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=16, epochs=2, validation_split=0.25, verbose=0)
"""


@pytest.mark.slow
@pytest.mark.launches
def test_fit_gives_the_same_bits_under_every_layout(tmp_path):
    (tmp_path / "fit.py").write_text(FIT)
    command = [
        sys.executable,
        "-m",
        "distopt.testing.layouts",
        "fit.py",
        "--replicas",
        "4",
        "--layouts",
        "1x4,4x1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1x4" in done.stdout
    assert "4x1" in done.stdout

"""Files that cannot be written: what is said, and that what was there before stays whole."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from distopt import keras
from distopt.file_access import open_to_write
from distopt.file_writing import append_whole, explained_errors
from distopt.keras import callbacks, layers

X, Y = np.ones((8, 16), np.float32), np.ones((8, 1), np.float32)


def model(units=1):
    made = keras.Sequential([layers.Dense(units, input_shape=(16,))])
    made.compile("sgd", "mse")
    return made


def fit(*used, units=1, epochs=1):
    y = np.ones((8, units), np.float32)
    return model(units).fit(X, y, epochs=epochs, verbose=0, callbacks=list(used))


WRITERS = {
    "weights": (lambda path: model().save_weights(f"{path}.npz"), "the weights"),
    "safetensors": (lambda path: model().save_weights(f"{path}.safetensors"), "the weights"),
    "checkpoint": (lambda path: fit(callbacks.ModelCheckpoint(f"{path}.npz")), "the weights"),
    "csv": (lambda path: fit(callbacks.CSVLogger(path)), "the log of epochs"),
    "plot": (lambda path: fit().plot(f"{path}.png"), "the picture of the history"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there(name, tmp_path):
    pytest.importorskip("matplotlib" if name == "plot" else "safetensors")
    write, what = WRITERS[name]
    with pytest.raises(FileNotFoundError) as error:
        write(str(tmp_path / "gone" / "file"))
    folder = str(tmp_path / "gone")
    assert error.value.errno == errno.ENOENT
    assert error.value.filename.startswith(os.path.join(folder, "file"))
    assert f"{what} could not be written: No such file or directory" in str(error.value)
    assert f"there is no folder {folder!r}: create it first" in str(error.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written(name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib" if name == "plot" else "safetensors")
    write, what = WRITERS[name]
    real = os.open

    def refuses(path, flags, *more, **others):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refuses)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"{what} could not be written: .*no permission") as error:
        write(str(tmp_path / "file"))
    assert error.value.errno == errno.EACCES
    assert error.value.filename.startswith(str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["weights", "safetensors", "checkpoint", "plot"])
def test_a_full_disk_leaves_the_old_file(name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib" if name == "plot" else "safetensors")
    write, what = WRITERS[name]
    write(str(tmp_path / "file"))
    (old,) = tmp_path.iterdir()
    held = old.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=rf"{what} could not be written: .*\([\d,]+ bytes to write, [\d,]+ bytes free"
    ):
        write(str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == held


LIMITED = """
import errno, resource, sys
import numpy as np
from distopt import keras
from distopt.keras import callbacks, layers
def fit(*used, units=1, epochs=1):
    made = keras.Sequential([layers.Dense(units, input_shape=(16,))])
    made.compile("sgd", "mse")
    return made.fit(np.ones((8, 16)), np.ones((8, units)), epochs=epochs, verbose=0, callbacks=list(used))
kind, path, limit = sys.argv[1:]
if kind == "npz":
    use = lambda: fit(callbacks.ModelCheckpoint(path), units=4096)
elif kind == "csv":
    use = lambda: fit(callbacks.CSVLogger(path), epochs=100)
else:
    use = lambda: fit(callbacks.TensorBoard(path), epochs=100)
fit()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    use()
except OSError as error:
    assert error.errno == errno.EFBIG, error
    assert error.filename.startswith(path), error
    print(error)
"""


@pytest.mark.parametrize("kind", ["npz", "csv", pytest.param("board", marks=pytest.mark.slow)])
def test_a_file_that_may_not_grow_ends_with_what_is_whole(kind, tmp_path):
    if kind == "board":
        pytest.importorskip("tensorboardX")
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder if kind == "board" else folder / f"file.{kind}"
    command = [sys.executable, "-c", LIMITED, kind, str(path), "1000"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert "could not be written: File too large" in run.stdout
    assert "bytes to write; see `ulimit -f`" in run.stdout
    assert "Exception ignored" not in run.stderr
    if kind == "npz":
        assert list(folder.iterdir()) == []
    elif kind == "csv":
        lines = path.read_text().splitlines(keepends=True)
        assert len(lines) > 20
        assert all(line.endswith("\n") and line.count(",") == 1 for line in lines)
        assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(len(lines) - 1))
    else:
        (events,) = [file for file in folder.rglob("*") if file.is_file()]
        records(events.read_bytes())


def records(data):
    """Raises if the records of an event file do not end where it does."""
    place = 0
    while place < len(data):
        place += 8 + 4 + int.from_bytes(data[place : place + 8], "little") + 4
    assert place == len(data)


def test_the_best_value_is_that_of_what_was_saved(tmp_path, monkeypatch):
    kept = callbacks.ModelCheckpoint(tmp_path / "w.npz", "loss", save_best_only=True)
    before = kept.best

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            fit(kept)
    assert kept.best == before
    fit(kept)
    assert np.isfinite(kept.best)
    assert (tmp_path / "w.npz").exists()


def test_training_goes_on_after_a_full_disk(tmp_path, monkeypatch):
    made = model()
    made.fit(X, Y, verbose=0)
    before, steps = made.get_weights(), int(made.optimizer.iterations)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="the weights could not be written"):
            made.save_weights(tmp_path / "w.npz")
    assert int(made.optimizer.iterations) == steps
    assert all(np.array_equal(a, b) for a, b in zip(before, made.get_weights(), strict=True))
    made.fit(X, Y, verbose=0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_device_that_is_full():
    with (
        open("/dev/full", "wb", buffering=0) as file,
        pytest.raises(OSError, match=r"the log of epochs could not be written: .*\(3 bytes to write"),
    ):
        append_whole(file, b"abc", "/dev/full", "the log of epochs")


def test_the_kind_of_error_stays():
    with pytest.raises(IsADirectoryError, match="it could not be written"), explained_errors("/tmp", "it"):
        open_to_write("/tmp")


def test_a_backup_into_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file") as error:
        fit(callbacks.BackupAndRestore(tmp_path / "file" / "backup"))
    assert error.value.errno == errno.ENOTDIR
    assert error.value.filename.startswith(str(tmp_path / "file"))

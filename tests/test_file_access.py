"""Files in folders that others can write: no link is followed, nothing is waited for without end."""

import os
import stat

import numpy as np
import pytest

from distopt import keras
from distopt.file_access import (
    create,
    is_shared,
    make_folders,
    open_to_append,
    open_to_read,
    open_to_write,
    read_all,
)
from distopt.keras import callbacks
from distopt.trace import StepRecorder, read


@pytest.fixture
def shared(tmp_path):
    """A folder that others can write, and a file of the user's elsewhere that a link in it leads to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (tmp_path / "private").write_text("precious")
    return folder


def precious(folder):
    return (folder.parent / "private").read_text() == "precious"


@pytest.mark.parametrize("opened", [open_to_write, open_to_append])
def test_links_and_pipes_of_others_are_refused(shared, opened):
    for plant in (
        lambda path: path.symlink_to(shared.parent / "private"),
        lambda path: path.symlink_to(shared.parent / "new"),
        lambda path: path.hardlink_to(shared.parent / "private"),
        os.mkfifo,
    ):
        path = shared / "log"
        plant(path)
        with pytest.raises(OSError, match="in a folder that others can write"):
            opened(path)
        path.unlink()
    assert precious(shared)
    assert not (shared.parent / "new").exists()


def test_ones_own_links_work_where_nobody_else_can_write(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_to_write(tmp_path / "link") as file:
        file.write(b"one two")
    with open_to_append(tmp_path / "link") as file:
        file.write(b" three")
    assert (tmp_path / "file").read_bytes() == b"one two three"
    with open_to_write(tmp_path / "link") as file:
        file.write(b"four")
    assert (tmp_path / "file").read_bytes() == b"four"
    with open_to_write("/dev/null") as file:
        file.write(b"five")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_ordinary_files_are_written_in_shared_folders(shared, mode):
    shared.chmod(mode)
    for _ in range(2):
        with open_to_write(shared / "log") as file:
            file.write(b"text")
    assert (shared / "log").read_text() == "text"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of another user")
def test_a_folder_of_another_user_is_shared(tmp_path):
    assert not is_shared(tmp_path)
    os.chown(tmp_path, 12345, 12345)
    assert is_shared(tmp_path)
    os.symlink("/nowhere", tmp_path / "log")
    with pytest.raises(OSError, match="is a symbolic link in a folder that others can write"):
        open_to_write(tmp_path / "log")


def test_new_files_take_the_place_of_links(shared):
    (shared / "log").symlink_to(shared.parent / "private")
    with create(shared / "log") as file:
        file.write(b"new")
    assert (shared / "log").read_text() == "new"
    assert not (shared / "log").is_symlink()
    assert precious(shared)


def test_folders_that_are_made_are_the_users_alone(tmp_path):
    make_folders(tmp_path / "a" / "b/")
    make_folders(tmp_path / "a" / "b")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o700}
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists"):
        make_folders(tmp_path / "file")


@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "directory")):
        with pytest.raises(OSError, match=words):
            open_to_read(path)
    (tmp_path / "long").write_bytes(bytes(11))
    with pytest.raises(OSError, match="11 bytes, and 10 are the most"):
        read_all(tmp_path / "long", 10)
    assert read_all(tmp_path / "long", 11) == bytes(11)


def fit(*told):
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    return model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=list(told))


def test_what_callbacks_and_records_write(shared):
    """CSV, event, record, weight and picture files."""
    names = ["log.csv", "steps", "w.npz.part", "picture.png"]
    for name in names:
        (shared / name).symlink_to(shared.parent / "private")
    with pytest.raises(OSError, match="is a symbolic link"):
        fit(callbacks.CSVLogger(shared / "log.csv"))
    with pytest.raises(OSError, match="is a symbolic link"):
        fit(callbacks.CSVLogger(shared / "log.csv", append=True))
    with pytest.raises(OSError, match="is a symbolic link"):
        StepRecorder(str(shared))
    history = fit(callbacks.ModelCheckpoint(shared / "w.npz"), callbacks.TensorBoard(shared / "new" / "tb"))
    assert stat.S_IMODE((shared / "new").stat().st_mode) == 0o700
    pytest.importorskip("matplotlib")
    with pytest.raises(OSError, match="is a symbolic link"):
        history.plot(shared / "picture.png")
    assert precious(shared)
    history.plot(shared / "other")
    assert (shared / "other.png").read_bytes().startswith(b"\x89PNG")


def test_a_record_is_made_for_the_user_alone(tmp_path):
    recorder = StepRecorder(str(tmp_path / "record"))
    recorder.write([("w", np.ones(2))])
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o700
    assert [record.names for record in read(str(tmp_path / "record"))] == [("w",)]

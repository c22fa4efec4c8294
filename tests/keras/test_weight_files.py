"""Weights of models in files."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import MissingExtra, ReplicaFailed
from distopt.keras import layers as L
from distopt.keras.training import weights_file
from distopt.keras.training.weights_file import read_weights, write_weights


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_weights_go_into_files_and_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"weights{ending}"
    model = keras.Sequential([L.Dense(4, input_shape=(3,)), L.BatchNormalization(), L.Dense(1)])
    model.save_weights(path)
    other = keras.Sequential([L.Dense(4, input_shape=(3,)), L.BatchNormalization(), L.Dense(1)])
    other.load_weights(path)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert (one == two).all()
        assert one.dtype == two.dtype
    with pytest.raises(ValueError, match="takes 2 weights; got 8"):
        keras.Sequential([L.Dense(4, input_shape=(3,))]).load_weights(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_safetensors_is_read_by_others(tmp_path: Path) -> None:
    """The layout of the format: length, header, data, read by hand."""
    path = tmp_path / "w.safetensors"
    model = keras.Sequential([L.Dense(2, input_shape=(3,))])
    model.save_weights(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = __import__("json").loads(data[8 : 8 + length])
    name, entry = next(iter(header.items()))
    assert name.endswith("/kernel")
    assert entry["dtype"] == "F32"
    start, stop = entry["data_offsets"]
    kernel = np.frombuffer(data[8 + length + start : 8 + length + stop], "<f4").reshape(entry["shape"])
    assert (kernel == model.get_weights()[0]).all()
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a safetensors file"):
        model.load_weights(path)


def test_what_cannot_be_written_leaves_nothing_and_is_told_to_all_replicas(tmp_path: Path) -> None:
    def program() -> int:
        model = keras.Sequential([L.Dense(2, input_shape=(3,))])
        with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
            model.save_weights(tmp_path / "w.h5")
        return int(get_replica_context().all_reduce("sum", 1))

    assert VirtualStrategy(2).run(program) == 2  # who had waited in save_weights would not meet in here
    with pytest.raises(ValueError, match="safetensors has no dtype"):
        write_weights(str(tmp_path / "w.safetensors"), [("w", np.zeros(1, np.complex64))])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_an_error_on_all_replicas(tmp_path):
    def program():
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
        with pytest.raises((FileNotFoundError, ReplicaFailed), match="no_such_folder"):
            model.save_weights(tmp_path / "no_such_folder" / "w.npz")
        model.save_weights(tmp_path / "w.npz")
        return (tmp_path / "w.npz").exists()

    assert program()
    assert VirtualStrategy(3).run(program)


def bomb(path: Path) -> None:
    """256 MB of zeros in a quarter of a megabyte."""
    np.savez_compressed(path, **{"0000/kernel": np.zeros(1 << 25)})


def hole(path: Path) -> None:
    """A tensor of 256 MB that takes no room on the disk."""
    header = {"0000/kernel": {"dtype": "F64", "shape": [1 << 25], "data_offsets": [0, 1 << 28]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + (1 << 28))


@pytest.mark.parametrize(("make", "name"), [(bomb, "w.npz"), (hole, "w.safetensors")])
def test_a_file_of_other_weights_is_refused_before_it_takes_memory(tmp_path: Path, make, name) -> None:
    make(tmp_path / name)
    for first, words in ((4, "takes 2 weights; got 1"), (None, "has shape")):
        model = keras.Sequential([keras.layers.Dense(4, input_shape=(3,), use_bias=first is not None)])
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=words):
                model.load_weights(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 20 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["w.npz", "w.safetensors"])
def test_a_pipe_or_a_device_is_no_weight_file(tmp_path: Path, name: str) -> None:
    model = keras.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        model.load_weights(tmp_path / name)
    os.unlink(tmp_path / name)
    os.symlink("/dev/zero", tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        model.load_weights(tmp_path / name)


def npz(path: Path, header: bytes, kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("0000/w.npy", header)
    return path


def test_npz_headers_that_lie(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.lib.format.write_array(array, np.zeros(4))
    whole = array.getvalue()
    path = tmp_path / "w.npz"
    assert read_weights(str(npz(path, whole)))[0][1].shape == (4,)
    long = b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + bytes(1000)
    for content in (whole[:-8], whole + bytes(8), whole.replace(b"(4,)", b"(9,)"), long):
        with pytest.raises(ValueError, match=r"is not an \.npz file of weights"):
            read_weights(str(npz(path, content)))
    with pytest.raises(ValueError, match="a method that NumPy does not use"):
        read_weights(str(npz(path, whole, zipfile.ZIP_LZMA)))


def test_safetensors_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    right = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for change in ({"shape": [3]}, {"shape": [-1]}, {"data_offsets": [4, 12]}, {"data_offsets": [8, 0]}):
        text = json.dumps({"0000/w": {**right, **change}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        with pytest.raises(ValueError, match="is not a safetensors file"):
            read_weights(str(path))
    path.write_bytes((1 << 40).to_bytes(8, "little") + bytes(8))
    with pytest.raises(ValueError, match="a header of"):
        read_weights(str(path))
    path.write_bytes((17 << 20).to_bytes(8, "little"))
    os.truncate(path, 8 + (17 << 20))  # as JSON it could take gigabytes
    with pytest.raises(ValueError, match="a header of 17,825,792 bytes"):
        read_weights(str(path))


def test_a_header_that_could_not_be_read_back_is_not_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(weights_file, "_HEADER", 1000)
    write_weights(str(tmp_path / "few.safetensors"), [("w", np.zeros(1))] * 5)
    with pytest.raises(ValueError, match=r"save as \.npz"):
        write_weights(str(tmp_path / "many.safetensors"), [("w", np.zeros(1))] * 50)
    assert [path.name for path in tmp_path.iterdir()] == ["few.safetensors"]


def test_without_safetensors_only_npz(tmp_path: Path, monkeypatch) -> None:
    write_weights(str(tmp_path / "w.safetensors"), [("w", np.ones(1))])
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtra, match=r"a \.safetensors file needs .* pip install safetensors$"):
        read_weights(str(tmp_path / "w.safetensors"))
    with pytest.raises(MissingExtra, match=r"pip install safetensors$"):
        write_weights(str(tmp_path / "other.safetensors"), [("w", np.ones(1))])
    write_weights(str(tmp_path / "w.npz"), [("w", np.ones(1))])
    assert read_weights(str(tmp_path / "w.npz"))[0][1].tolist() == [1.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.npz", "w.safetensors"]


def test_bfloat16_goes_into_safetensors_only(tmp_path: Path) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16
    weights = [("a", np.arange(6).reshape(2, 3).astype(kind)), ("b", np.ones(2))]
    write_weights(str(tmp_path / "w.safetensors"), weights)
    (name, a), (_, b) = read_weights(str(tmp_path / "w.safetensors"))
    assert (name, a.dtype, a.tobytes(), b.dtype) == ("a", kind, weights[0][1].tobytes(), np.float64)
    with pytest.raises(ValueError, match=r"bfloat16: save as \.safetensors"):
        write_weights(str(tmp_path / "w.npz"), weights)
    assert not (tmp_path / "w.npz").exists()


def test_bfloat16_of_a_file_is_read_without_any_other_use_of_it(tmp_path: Path) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16
    path = str(tmp_path / "w.safetensors")
    write_weights(path, [("a", np.full(2, 1.5).astype(kind))])
    text = f"from {read_weights.__module__} import read_weights; print(read_weights({path!r})[0][1] * 2)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100)
    assert done.stdout == "[3 3]\n", done.stderr

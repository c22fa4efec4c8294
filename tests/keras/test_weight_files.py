"""Weights of models in files."""

from pathlib import Path

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed
from distopt.keras import layers as L
from distopt.keras.training.weights_file import write_weights


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
    with pytest.raises(ValueError, match="no safetensors file"):
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

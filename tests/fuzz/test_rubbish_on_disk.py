"""Checkpoints and weight files that were changed: refused, nothing restored, no file elsewhere touched."""

import hashlib
import json
import os
import pickle
import shutil
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import attempt, fuzz, state, watched
from strategies import hostile_names, integers, mutated, plain

from distopt import Variable, optimizers
from distopt.checkpoint import CheckpointManager
from distopt.checkpoint.manifest import Manifest
from distopt.keras.training.weights_file import read_weights, write_weights

#: Other objects, a newer format; a checkpoint that is not whole; a file that cannot be read.
REFUSED = (ValueError, RuntimeError, OSError)


def objects():
    weight, optimizer = Variable([[1.0, 2.0]], name="w"), optimizers.Adam(0.1)
    optimizer.apply_gradients([([[1.0, 1.0]], weight)])
    return {"variables": [weight], "optimizer": optimizer, "mine": {"epoch": 3, "best": np.ones(2)}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with one checkpoint, its manifest as JSON."""
    folder = tmp_path_factory.mktemp("saved")
    path = CheckpointManager(folder, **objects()).save()
    with open(os.path.join(path, "manifest.json"), "rb") as file:
        return str(folder), os.path.basename(path), json.loads(file.read().partition(b"\n")[2])


def sealed(body):
    """A manifest's bytes with the checksum that fits them."""
    return b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def dumped(content):
    return json.dumps(content).encode("utf-8", "replace")


bodies = st.one_of(
    st.binary(max_size=20), st.just(b"[" * 100_000), st.just(b'{"format": 1e999}'), plain.map(dumped)
)


@fuzz(150)
@given(data=st.data())
def test_manifests(saved, data):
    body = data.draw(st.one_of(bodies, mutated(saved[2]).map(dumped)))
    whole = data.draw(st.sampled_from([sealed(body), body]))
    found = attempt(lambda: Manifest.parse(whole), ValueError)
    if isinstance(found, Manifest):
        assert all(os.path.basename(file.name) == file.name for file in found.files)


@fuzz(60)
@given(data=st.data())
def test_restoring(saved, data):
    directory, name, manifest = saved
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copytree(os.path.join(directory, name), os.path.join(folder, name))
        content = data.draw(mutated(manifest))
        if data.draw(st.booleans()) and isinstance(content, dict):
            content = {**manifest, "files": [{"name": data.draw(hostile_names), "nbytes": 1, "sha256": "0"}]}
        with open(os.path.join(path, "manifest.json"), "wb") as file:
            file.write(sealed(dumped(content)))
        mine = objects()
        manager, before = CheckpointManager(folder, **mine), state(*mine["variables"], mine["optimizer"])
        with watched(folder):
            found = attempt(manager.restore, *REFUSED)
        if isinstance(found, Exception):
            assert before == state(*mine["variables"], mine["optimizer"])
            assert mine["mine"]["epoch"] == 3


@st.composite
def headers(draw):
    """The header of a safetensors file of one tensor, something about it changed."""
    right = {"0000/w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"a": "b"}}
    text = draw(st.one_of(mutated(right).map(dumped), bodies))
    length = draw(st.one_of(st.just(len(text)), integers.filter(lambda n: 0 <= n < 2**64)))
    return struct.pack("<Q", length) + text + bytes(draw(st.sampled_from([8, 0, 7])))


@fuzz(150)
@given(content=st.one_of(headers(), st.binary(max_size=30)))
def test_safetensors(content):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.safetensors")
        with open(path, "wb") as file:
            file.write(content)
        with watched(folder):
            attempt(lambda: read_weights(path), ValueError)


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


@fuzz(60)
@given(data=st.data())
def test_npz(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.npz")
        kind = data.draw(st.sampled_from(["pickle", "objects", "cut", "changed", "binary"]))
        write_weights(path, [("w", np.arange(4.0))])
        with open(path, "rb") as file:
            content = bytearray(file.read())
        if kind == "objects":
            np.savez(path, allow_pickle=True, **{"0000/w": np.array([Bomb()], object)})
        else:
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] ^= data.draw(st.integers(1, 255))
            changed = {"pickle": pickle.dumps(Bomb()), "cut": content[:at], "changed": content}
            with open(path, "wb") as file:
                file.write(changed.get(kind, data.draw(st.binary(max_size=9))))
        with watched(folder):
            attempt(lambda: read_weights(path), ValueError)

"""A checkpoint that is not whole is found, whatever happened to it, and the one before is taken."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from distopt import Variable
from distopt.checkpoint import CheckpointManager
from distopt.checkpoint.manifest import Damaged, Manifest
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed
from distopt.optimizers import SGD, Adam


def saved(directory, replicas):
    """Two checkpoints, of epoch 1 and 2; the paths of the second one's files."""

    def program():
        w = Variable([1.0], name="w")
        rank = get_replica_context().replica_id_in_sync_group
        mine, own = {"epoch": 0}, [rank]
        manager = CheckpointManager(directory, variables=[w], mine=mine, own=own)
        for epoch in (1, 2):
            mine["epoch"] = epoch
            w.assign([float(epoch)])
            manager.save()

    VirtualStrategy(replicas).run(program)
    newest = directory / "checkpoint-00000002"
    return sorted(newest.iterdir())


def restored(directory, replicas):
    """The epoch that each replica finds."""
    found = [None] * replicas

    def program():
        rank = get_replica_context().replica_id_in_sync_group
        w, mine, own = Variable([0.0], name="w"), {}, [-1]
        CheckpointManager(directory, variables=[w], mine=mine, own=own).restore()
        assert own == [rank]
        assert w.numpy()[0] == mine["epoch"]
        found[rank] = mine["epoch"]

    VirtualStrategy(replicas).run(program)
    return found


def test_every_flipped_byte_is_found(tmp_path, caplog):
    files = saved(tmp_path, 2)
    assert {f.name for f in files} > {"manifest.json", "replica-00000.safetensors", "state-00000.safetensors"}
    for file in files:
        whole = file.read_bytes()
        # The arrays of the random generators are long: every byte of the rest, some of theirs.
        places = [*range(min(len(whole), 400)), *range(400, len(whole), 61), len(whole) - 1]
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 0x20
            file.write_bytes(changed)
            caplog.clear()
            manager = CheckpointManager(tmp_path, mine={})
            assert manager.restore(), (file.name, place)
            assert "checkpoint-00000002 is skipped" in caplog.text, (file.name, place)
        file.write_bytes(whole)
    assert restored(tmp_path, 2) == [2, 2]


@pytest.mark.parametrize("size", [1, 3])
def test_torn_and_missing_files_are_found(tmp_path, caplog, size):
    for file in saved(tmp_path, size):
        whole = file.read_bytes()
        for length in (0, 1, 8, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            assert restored(tmp_path, size) == [1] * size
        file.write_bytes(whole + b" ")
        assert restored(tmp_path, size) == [1] * size
        file.unlink()
        caplog.clear()
        assert restored(tmp_path, size) == [1] * size
        assert file.name in caplog.text
        file.write_bytes(whole)
    assert restored(tmp_path, size) == [2] * size


def test_a_manifest_of_another_checkpoint_is_found(tmp_path):
    saved(tmp_path, 1)
    shutil.rmtree(tmp_path / "checkpoint-00000002")
    shutil.copytree(tmp_path / "checkpoint-00000001", tmp_path / "checkpoint-00000002")
    assert restored(tmp_path, 1) == [1]


def test_none_that_is_whole_is_an_error(tmp_path):
    saved(tmp_path, 1)
    for folder in tmp_path.iterdir():
        (folder / "manifest.json").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"none of the checkpoints in .* is intact .*move\s+them away"):
        restored(tmp_path, 1)


def test_damaged_ones_do_not_count_among_those_kept(tmp_path):
    w = Variable([1.0], name="w")
    manager = CheckpointManager(tmp_path, keep=2, variables=[w])
    manager.save()
    manager.save()
    newest = tmp_path / "checkpoint-00000002"
    (newest / "state-00000.safetensors").write_bytes(b"")
    manager.save()
    assert [path[-1] for path in manager.checkpoints] == ["1", "2", "3"]
    manager.save()
    assert [path[-1] for path in manager.checkpoints] == ["3", "4"]


def test_what_a_broken_off_save_left_is_no_checkpoint_and_taken_away(tmp_path):
    saved(tmp_path, 1)
    os.rename(tmp_path / "checkpoint-00000002", tmp_path / "checkpoint-00000002.part")
    assert restored(tmp_path, 1) == [1]
    CheckpointManager(tmp_path, mine={}).save()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000001", "checkpoint-00000002"]


def test_a_newer_format_is_refused_not_passed_over(replicas, tmp_path):
    replicas.run(lambda: CheckpointManager(tmp_path, mine={}).save())
    file = tmp_path / "checkpoint-00000001" / "manifest.json"
    if get_replica_context().replica_id_in_sync_group == 0:
        content = json.loads(file.read_bytes().partition(b"\n")[2])
        content["format"] = 2
        file.write_bytes(with_checksum(json.dumps(content).encode()))

    def program():
        with pytest.raises(ValueError, match="format 2 of this checkpoint is not known"):
            CheckpointManager(tmp_path, mine={}).restore()
        return True

    assert all(replicas.run(program))


def with_checksum(body):
    import hashlib

    return b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_rubbish_with_a_right_checksum(data):
    """A manifest made by hand: refused by its documented errors, whatever stands where."""
    content = {
        "format": 1,
        "number": 1,
        "replicas": 2,
        "optimizers": {"o": "Adam"},
        "groups": {
            "v": [
                {
                    "name": "w",
                    "shape": [1],
                    "dtype": "<f4",
                    "file": "state-00000.safetensors",
                    "on_read": False,
                    "aggregation": "NONE",
                    "of": ["v", 0],
                    "slot": "m",
                }
            ]
        },
        "states": {"mine": {"tree": None, "file": ""}},
        "files": [{"name": "state-00000.safetensors", "nbytes": 1, "sha256": "0"}],
    }
    assert isinstance(Manifest.parse(with_checksum(json.dumps(content).encode())), Manifest)
    where = content
    while True:  # somewhere in it, something else
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(where[key], (dict, list)) and where[key] and data.draw(st.booleans()):
            where = where[key]
        else:
            where[key] = data.draw(JSON)
            break
    try:
        manifest = Manifest.parse(with_checksum(json.dumps(content).encode()))
    except ValueError:
        return
    assert all(record.name.startswith(("state-", "replica-")) for record in manifest.files)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "state-00000.safetensors/../x", ""])
def test_a_file_outside_is_refused(tmp_path, name):
    CheckpointManager(tmp_path, mine={}).save()
    file = tmp_path / "checkpoint-00000001" / "manifest.json"
    content = json.loads(file.read_bytes().partition(b"\n")[2])
    content["files"][0]["name"] = name
    with pytest.raises(Damaged, match="is not a file of a checkpoint"):
        Manifest.parse(with_checksum(json.dumps(content).encode()))


def objects(optimizer=Adam, shapes=None, **words):
    """A program's objects."""
    shapes = {"a": (2, 3), "b": (3,), **(shapes or {})}
    variables = [Variable(np.zeros(shape, np.float32), name=n) for n, shape in shapes.items() if shape]
    return {"variables": variables, "optimizer": optimizer(0.1, **words), "mine": {}}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shapes": {"a": (2, 4)}}, "variables: 'a' float32[2, 3] in the checkpoint, 'a' float32[2, 4] here"),
        ({"shapes": {"b": None}}, "variables: 'b' float32[3] is in the checkpoint only"),
        ({"shapes": {"c": (5,)}}, "variables: 'c' float32[5] is here only"),
        ({"amsgrad": True}, "optimizer: 'a/vhat' float32[2, 3] is here only"),
        ({"optimizer": SGD}, "optimizer: Adam in the checkpoint, SGD here"),
    ],
)
def test_a_directory_of_another_model(replicas, tmp_path, changes, line):
    def program():
        there = objects()
        there["optimizer"].apply_gradients([(np.ones(v.shape, np.float32), v) for v in there["variables"]])
        CheckpointManager(tmp_path, **there).save()
        here = objects(**changes)
        with pytest.raises(ValueError, match="does not match the objects of this program") as caught:
            CheckpointManager(tmp_path, **here).restore()
        assert line in str(caught.value)
        assert all(not v.numpy().any() for v in here["variables"])
        return True

    assert all(replicas.run(program))


def test_objects_that_were_not_saved(tmp_path):
    CheckpointManager(tmp_path, mine={}).save()
    with pytest.raises(ValueError, match="more: not in the checkpoint, which holds random, mine"):
        CheckpointManager(tmp_path, mine={}, more={}).restore()


def test_one_replica_with_another_model(tmp_path):
    def program():
        rank = get_replica_context().replica_id_in_sync_group
        w = Variable([0.0], name="w")
        CheckpointManager(tmp_path, variables=[w]).save()
        v = Variable([0.0, 0.0] if rank == 1 else [0.0], name="w")
        with pytest.raises(ValueError if rank == 1 else ReplicaFailed, match=r"'w' float32\[2\] here"):
            CheckpointManager(tmp_path, variables=[v]).restore()

    VirtualStrategy(2).run(program)

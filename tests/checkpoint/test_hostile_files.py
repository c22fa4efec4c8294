"""Checkpoints that others have prepared, and what clusters do to directories: nothing hangs or breaks."""

import hashlib
import json
import logging
import os
import random
import shutil
import stat

import numpy as np
import pytest

from distopt import Variable
from distopt.checkpoint import CheckpointManager, files
from distopt.checkpoint.holders import GlobalStreams, holder_of
from distopt.checkpoint.manifest import Damaged, FileRecord
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed

pytestmark = pytest.mark.timeout(60)


def saved(folder, count=2):
    """A manager of ``count`` checkpoints, and what it holds."""
    mine = {"epoch": 0}
    manager = CheckpointManager(folder, variables=[Variable([1.0], name="w")], mine=mine)
    for epoch in range(1, count + 1):
        mine["epoch"] = epoch
        manager.save()
    return manager, mine


def pipe(path):
    os.unlink(path)
    os.mkfifo(path)


def zeros(path):
    os.unlink(path)
    os.symlink("/dev/zero", path)


def folder(path):
    os.unlink(path)
    os.mkdir(path)


def endless(path):
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("change", [pipe, zeros, folder, endless])
@pytest.mark.parametrize("name", ["manifest.json", "state-00000.safetensors"])
def test_what_is_no_file_is_passed_over(tmp_path, caplog, change, name):
    manager, mine = saved(tmp_path)
    change(tmp_path / "checkpoint-00000002" / name)
    assert manager.restore()
    assert mine == {"epoch": 1}
    assert f"checkpoint-00000002 is skipped: {name}" in caplog.text
    manager.save()  # which looks at what to remove


def rewritten(path, change):
    """Changes a manifest, and gives it the checksum that fits."""
    content = json.loads((path / "manifest.json").read_bytes().partition(b"\n")[2])
    change(content)
    body = json.dumps(content).encode()
    head = b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    (path / "manifest.json").write_bytes(head + body)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("replicas", [10**12, 10**30, 0, 5])
def test_a_number_of_replicas_that_cannot_be(tmp_path, own, replicas):
    def save():
        mine = {"own": get_replica_context().replica_id_in_sync_group if own else 0}
        manager = CheckpointManager(tmp_path, mine=mine)
        manager.save()
        manager.save()

    VirtualStrategy(2).run(save)
    rewritten(tmp_path / "checkpoint-00000002", lambda content: content.update(replicas=replicas))
    if replicas == 5 and not own:
        return  # what all have in common is there for any number
    with pytest.raises(Damaged, match="replicas"):
        files.read_manifest(str(tmp_path / "checkpoint-00000002"))
    mine = {}
    assert CheckpointManager(tmp_path, mine=mine).restore()
    assert mine == {"own": 0}


GENERATORS = [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64]


def wrong_states(state):
    """States of a NumPy generator with one thing about them changed."""
    ranges = {"pos": (-5, 625, 5000, 10**8), "buffer_pos": (-1, 5), "has_uint32": (2,), "has_gauss": (-1,)}
    for name, numbers in {**ranges, "uinteger": (2**32,), "gauss": (np.nan, "x")}.items():
        for number in numbers:
            if name in state:
                yield {**state, name: number}
            if name in state["state"]:
                yield {**state, "state": {**state["state"], name: number}}
    for name, value in state["state"].items():
        if isinstance(value, np.ndarray):
            yield {**state, "state": {**state["state"], name: value[:-1]}}
            yield {**state, "state": {**state["state"], name: value.astype(np.float64)}}
        else:
            yield {**state, "state": {**state["state"], name: 2**128}}
            yield {**state, "state": {**state["state"], name: "x"}}
        yield {**state, "state": {}}
    if state["bit_generator"] == "MT19937":
        yield {**state, "state": {**state["state"], "key": np.zeros(624, np.uint32)}}
    if state["bit_generator"].startswith("PCG64"):
        yield {**state, "state": {**state["state"], "inc": 2}}
    yield {**state, "bit_generator": "Other"}
    yield {name: value for name, value in state.items() if name != "state"}


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("maker", [np.random.Generator, np.random.RandomState])
def test_states_of_numpys_generators(kind, maker):
    generator = maker(kind(3))
    generator.random_sample(3) if maker is np.random.RandomState else generator.random(3)
    holder = holder_of(generator)
    right = holder.get_state()
    count = 0
    for wrong in wrong_states(right):
        with pytest.raises((TypeError, ValueError)):
            holder.check_state(wrong)
        count += 1
    assert count > 5
    holder.check_state(right)
    numbers = generator.standard_normal(5)
    holder.set_state(right)
    assert (generator.standard_normal(5) == numbers).all()


def test_states_of_older_kinds():
    generator = np.random.RandomState(1)
    holder, (kind, key, _pos, has, gauss) = holder_of(generator), generator.get_state()
    holder.check_state((kind, key, 624, has, gauss))
    for wrong in ((kind, key, 10**8, has, gauss), (kind, key[1:], 3, has, gauss), (kind, key, 3)):
        with pytest.raises((TypeError, ValueError)):
            holder.check_state(wrong)
    python = holder_of(random.Random(1))
    version, numbers, _ = python.get_state()
    past = numbers.copy()
    past[-1] = 625
    for wrong in (
        (version, past, None),
        (version, numbers, "x"),
        (version, 0 * numbers, None),
        (9, numbers, None),
    ):
        with pytest.raises((TypeError, ValueError)):
            python.check_state(wrong)
    streams = GlobalStreams()
    state = streams.get_state()
    state["numpy"]["state"]["pos"] = 10**8
    with pytest.raises(ValueError, match="pos of the random state is 100000000"):
        streams.check_state(state)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_wrong_state_on_one_replica_changes_nothing_on_any(tmp_path, replicas):
    class Position:
        def __init__(self, rank):
            self.rank, self.place = rank, 0

        def get_state(self):
            return {"place": self.place, "rank": self.rank}

        def check_state(self, state):
            if self.rank == replicas - 1:
                raise ValueError("not mine")

        def set_state(self, state):
            self.place = state["place"]

    def program():
        w, position = Variable([1.0], name="w"), Position(get_replica_context().replica_id_in_sync_group)
        manager = CheckpointManager(tmp_path, variables=[w], position=position)
        manager.save()
        position.place = 9
        w.assign([5.0])
        with pytest.raises((ValueError, ReplicaFailed), match="not mine"):
            manager.restore()
        found.append((float(w[0]), position.place))

    found = []
    VirtualStrategy(replicas).run(program)
    assert found == [(5.0, 9)] * replicas


def state_of(content, **changes):
    (array,) = [item for key, item in content["states"]["mine"]["tree"]["dict"] if key == "array"]
    array.update(changes)
    return array


def with_array(folder):
    return CheckpointManager(folder, mine={"array": np.ones(1000, np.float32)})


def test_an_array_that_a_state_asks_for_again_and_again(tmp_path):
    def change(content):
        content["states"]["mine"]["tree"]["dict"].append(["more", [state_of(content)] * 1000])

    manager = with_array(tmp_path)
    rewritten(tmp_path / os.path.basename(manager.save()), change)
    with pytest.raises(Damaged, match="the state 'mine' holds its array 0 twice"):
        manager.restore()


@pytest.mark.parametrize("dtype", ["<f8", "<f2", "<U0", "|S0", "|b1", "<U1000"])
def test_an_array_of_another_dtype_than_its_file_holds(tmp_path, dtype):
    manager = with_array(tmp_path)
    rewritten(tmp_path / os.path.basename(manager.save()), lambda content: state_of(content, dtype=dtype))
    with pytest.raises(Damaged, match="does not hold 'mine#0' as"):
        manager.restore()


def test_a_dtype_that_numpy_has_not(tmp_path):
    manager = with_array(tmp_path)
    path = tmp_path / os.path.basename(manager.save()) / "state-00000.safetensors"
    data = path.read_bytes().replace(b'"F32","shape":[1000]', b'"F8_E4M3","shape":[4000]')
    start = len(data) - path.stat().st_size
    assert start > 0
    data = (int.from_bytes(data[:8], "little") + start).to_bytes(8, "little") + data[8:]
    path.write_bytes(data)
    record = {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewritten(path.parent, lambda content: content["files"][0].update(record))
    with pytest.raises(Damaged, match=r"holds? .mine#0. as"):
        manager.restore()


# -- directories
def test_a_checkpoint_moved_away_with_a_link_left_behind(tmp_path):
    manager, mine = saved(tmp_path / "run")
    (tmp_path / "archive").mkdir()
    for number in (1, 2):
        name = f"checkpoint-{number:08d}"
        shutil.move(tmp_path / "run" / name, tmp_path / "archive" / name)
        (tmp_path / "run" / name).symlink_to(tmp_path / "archive" / name)
    assert manager.restore()
    assert mine == {"epoch": 2}
    manager.keep = 1
    for _ in range(3):
        manager.save()
    assert [os.path.basename(path) for path in manager.checkpoints] == ["checkpoint-00000005"]
    assert len(list((tmp_path / "archive").iterdir())) == 2
    assert (tmp_path / "archive" / "checkpoint-00000001" / "manifest.json").exists()


@pytest.mark.parametrize("dangling", [True, False])
def test_links_in_place_of_leftovers(tmp_path, dangling):
    manager, _ = saved(tmp_path / "run", 1)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    to = tmp_path / ("nowhere" if dangling else "kept")
    (tmp_path / "run" / "checkpoint-00000002.part").symlink_to(to)
    (tmp_path / "run" / "checkpoint-00000007.part").write_text("a file")
    assert manager.save().endswith("checkpoint-00000002")
    assert (tmp_path / "kept" / "file").exists()
    assert not os.path.lexists(tmp_path / "run" / "checkpoint-00000007.part")


def test_a_directory_that_is_a_link_is_cleared_and_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    manager, _ = saved(tmp_path / "run")
    manager.clear()
    assert (tmp_path / "run").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []


def test_leftovers_that_cannot_be_removed_are_a_warning(tmp_path, monkeypatch, caplog):
    manager, _ = saved(tmp_path, 1)
    (tmp_path / "checkpoint-00000002.part").mkdir()

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    manager.keep = 1
    assert manager.save().endswith("checkpoint-00000003")
    assert manager.save().endswith("checkpoint-00000004")
    told = [record.getMessage() for record in caplog.records]
    assert (
        sum("00000002.part, which an interrupted save left behind, cannot be removed" in t for t in told) == 1
    )
    assert sum("the old checkpoint" in text and "00000001 cannot be removed" in text for text in told) == 1


def test_a_directory_that_everybody_can_write_is_a_warning_once(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    manager, _ = saved(tmp_path / "run")
    manager.restore()
    warned = [r for r in caplog.records if "every user of this machine can change" in r.getMessage()]
    assert [r.levelno for r in warned] == [logging.WARNING]
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    saved(tmp_path / "sticky")
    assert str(tmp_path / "sticky") not in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory of another user")
def test_a_directory_of_another_user_is_a_warning(tmp_path, caplog):
    saved(tmp_path / "run")
    os.chown(tmp_path / "run", 12345, 12345)
    assert CheckpointManager(tmp_path / "run", mine={}).restore()
    assert "belongs to another user (uid 12345)" in caplog.text


def test_who_can_read_a_directory_can_read_its_checkpoints(tmp_path):
    saved(tmp_path / "ours", 1)
    (tmp_path / "group").mkdir()
    (tmp_path / "group").chmod(0o775)
    saved(tmp_path / "group", 1)
    modes = {
        name: [
            stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / name, *(tmp_path / name).glob("c*1"))
        ]
        for name in ("ours", "group")
    }
    assert modes == {"ours": [0o700, 0o700], "group": [0o775, 0o755]}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a checkpoint of another user")
def test_a_checkpoint_of_another_user_is_a_warning(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o1777)
    manager, _ = saved(tmp_path / "run")
    os.chown(tmp_path / "run" / "checkpoint-00000002", 12345, 12345)
    assert manager.restore()
    assert "checkpoint-00000002: it belongs to another user (uid 12345)" in caplog.text


def test_a_number_that_leaves_none_after_it(tmp_path):
    manager, mine = saved(tmp_path, 1)
    (tmp_path / ("checkpoint-" + "9" * 18)).mkdir()
    with pytest.raises(OSError, match=r"checkpoint-9{18} has the highest possible number: move it away"):
        manager.save()
    mine["epoch"] = 5
    assert manager.restore()
    assert mine == {"epoch": 1}


def test_numbers_that_are_not_ours_are_left_alone(tmp_path):
    manager, _ = saved(tmp_path, 1)
    (tmp_path / ("checkpoint-" + "9" * 200)).mkdir()
    assert manager.save().endswith("checkpoint-00000002")


def test_a_checkpoint_that_somebody_removes_while_it_is_written_is_told_at_once(tmp_path, monkeypatch):
    def remove(path, data):
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
        return FileRecord(os.path.basename(path), len(data), "0")

    manager, _ = saved(tmp_path, 1)
    monkeypatch.setattr(files, "write_file", remove)
    with pytest.raises(OSError, match="it has been removed"):
        manager.save()
    monkeypatch.undo()
    assert manager.save().endswith("checkpoint-00000002")


def test_states_that_could_not_be_read_back_are_not_written(tmp_path, monkeypatch):
    from distopt.checkpoint import manifest, writing

    manager = CheckpointManager(tmp_path, mine={"text": "x" * 10_000})
    monkeypatch.setattr(manifest, "LONGEST", 5000)
    with pytest.raises(ValueError, match="keep long lists as NumPy arrays"):
        manager.save()
    monkeypatch.undo()
    monkeypatch.setattr(writing, "_LONGEST_TEXT", 5000)

    def program():
        own = get_replica_context().replica_id_in_sync_group
        manager = CheckpointManager(tmp_path, mine={"text": "x" * 10_000, "own": own})
        with pytest.raises((ValueError, ReplicaFailed), match="keep long lists as NumPy arrays"):
            manager.save()

    VirtualStrategy(2).run(program)

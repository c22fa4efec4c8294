"""Blocks of memory that processes of a node share."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distopt.comm import memory
from distopt.comm.pages import LARGE

WRITE = """
import sys
from distopt.comm.memory import open_block
block = open_block(bytes.fromhex(sys.argv[1]), 10_000)
print(int(block.bytes[7]), block.bytes.size)
block.bytes[8] = 43
"""


def test_another_process_sees_the_same_bytes():
    block = memory.create_block(10_000)
    assert not block.bytes.any()
    block.bytes[7] = 42
    done = subprocess.run(
        [sys.executable, "-c", WRITE, block.handle.hex()], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["42", "10000"], done.stderr
    assert block.bytes[8] == 43


def test_the_memory_outlives_its_handle():
    block = memory.create_block(4096)
    other = memory.open_block(block.handle, 4096)
    memory.release_handle(block)
    other.bytes[0] = 9
    assert block.bytes[0] == 9
    with pytest.raises(OSError):  # noqa: PT011
        memory.open_block(block.handle, 4096)


def handle_of(path, nbytes, mark=b"x" * 16):
    """What a process would send of a block that lies at ``path``, opened here; and the descriptor."""
    fd = os.open(path, os.O_RDWR)
    status = os.fstat(fd)
    return memory._HANDLE.pack(os.getpid(), fd, status.st_dev, status.st_ino, nbytes, mark), fd


def test_a_file_that_another_process_has_at_that_number_is_left_alone(tmp_path):
    # As between containers, where the number of a process means another one.
    file = tmp_path / "letter"
    file.write_bytes(b"a" * 4096 + b"x" * 16)
    block = memory.create_block(4096)
    pid, _, *_, mark = memory._HANDLE.unpack(block.handle)
    true = list(memory._HANDLE.unpack(block.handle))
    handle, own = handle_of(file, 4096, mark)
    other_number = memory._HANDLE.pack(pid, own, *true[2:])
    for wrong in (other_number, handle):
        with pytest.raises(OSError, match=r"another file|not the memory|Invalid argument"):
            memory.open_block(wrong, 4096)
    os.close(own)
    assert file.read_bytes() == b"a" * 4096 + b"x" * 16


def test_another_mark_or_another_length_is_refused():
    block = memory.create_block(4096)
    pid, fd, device, inode, nbytes, mark = memory._HANDLE.unpack(block.handle)
    for length, random in ((nbytes, bytes(16)), (3 << 20, mark), (16, mark)):
        with pytest.raises(OSError, match=r"another file|not the memory"):
            memory.open_block(memory._HANDLE.pack(pid, fd, device, inode, length, random), length)


@pytest.mark.parametrize("length", [4095, 4097, 1 << 40, 0, -1])
def test_a_block_of_another_length_than_it_should_have_is_refused(length):
    block = memory.create_block(4096)
    with pytest.raises(OSError, match="4,096 bytes instead of"):
        memory.open_block(block.handle, length)


def test_a_block_stays_as_long_as_it_is():
    block = memory.create_block(3 << 20)
    fd = memory._HANDLE.unpack(block.handle)[1]
    for length in (0, 8 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, length)
    block.bytes[:] = 1  # no bus error


def test_a_pipe_at_that_number_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(reader)
    handle = memory._HANDLE.pack(os.getpid(), reader, status.st_dev, status.st_ino, -16, bytes(16))
    with pytest.raises(OSError):  # noqa: PT011
        memory.open_block(handle, -16)
    os.close(reader)


def named_memory():
    """What this process has mapped of memory that has a name; others may come and go in that folder."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line}


def test_nothing_is_left_in_the_file_system():
    before = named_memory()
    descriptors = set(os.listdir("/proc/self/fd"))
    block = memory.create_block(1 << 20)
    block.bytes[:] = 1
    assert named_memory() == before
    memory.release_handle(block)
    del block
    assert set(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("call", ["ftruncate", "posix_fallocate"])
def test_no_room_is_an_error_at_once(monkeypatch, call):
    def full(fd, *sizes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    descriptors = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space"):
        memory.create_block(4096)
    assert set(os.listdir("/proc/self/fd")) == descriptors


def test_threads_share_plain_memory():
    block = memory.thread_block(16)
    assert block.bytes.dtype == np.uint8
    assert not block.bytes.any()


@pytest.mark.parametrize("nbytes", [100, LARGE, LARGE + 12_345, 3 * LARGE])
def test_memory_goes_when_its_last_view_goes(nbytes):
    block = memory.create_block(nbytes)
    other = memory.open_block(block.handle, nbytes)
    memory.release_handle(block)
    before = _mapped()
    part = other.bytes[5:10]
    del other
    block.bytes[5:10] = 7
    assert part.tolist() == [7] * 5
    assert _mapped() == before
    del part, block
    assert _mapped() < before


def test_large_blocks_lie_on_large_pages_in_every_process():
    block = memory.create_block(3 * LARGE + 100)
    other = memory.open_block(block.handle, 3 * LARGE + 100)
    assert not other.bytes.any()
    starts = [b.bytes.ctypes.data for b in (block, other)]
    assert [start % LARGE for start in starts] == [0, 0]
    if not _collapses():
        pytest.skip("this system gives no large pages")
    assert [_large(start) for start in starts] == [3 * LARGE, 3 * LARGE]


def _mapped() -> int:
    """How often memory of this kind is mapped here."""
    return Path("/proc/self/maps").read_text().count("/memfd:distopt")


def _collapses() -> bool:
    """Whether the system gives shared memory large pages to those who ask: Linux from 6.1 on, mostly."""
    release = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    setting = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    return release >= (6, 1) and setting.exists() and "[deny]" not in setting.read_text()


def _large(start: int) -> int:
    """The bytes on large pages of what is mapped from ``start`` on."""
    found = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            found = int(line.split("-")[0], 16)
        elif found == start and line.startswith("ShmemPmdMapped"):
            return int(line.split()[1]) * 1024
    return 0

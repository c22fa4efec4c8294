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
block = open_block(sys.argv[1])
print(int(block.bytes[7]), block.bytes.size)
block.bytes[8] = 43
"""


def test_another_process_sees_the_same_bytes():
    block = memory.create_block(10_000)
    assert not block.bytes.any()
    block.bytes[7] = 42
    done = subprocess.run(
        [sys.executable, "-c", WRITE, block.handle], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["42", "10000"], done.stderr
    assert block.bytes[8] == 43


def test_the_memory_outlives_its_handle():
    block = memory.create_block(4096)
    other = memory.open_block(block.handle)
    memory.release_handle(block)
    other.bytes[0] = 9
    assert block.bytes[0] == 9
    with pytest.raises(OSError):  # noqa: PT011
        memory.open_block(block.handle)


def test_nothing_is_left_in_the_file_system():
    before = set(os.listdir("/dev/shm"))
    descriptors = set(os.listdir("/proc/self/fd"))
    block = memory.create_block(1 << 20)
    block.bytes[:] = 1
    assert set(os.listdir("/dev/shm")) == before
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
    other = memory.open_block(block.handle)
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
    other = memory.open_block(block.handle)
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

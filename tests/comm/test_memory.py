"""Blocks of memory that processes of a node share."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from distopt.comm import memory

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

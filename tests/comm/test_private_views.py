"""Views of shared memory: what others write shows; what one writes stays there, is found, and goes back."""

import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from distopt.comm import memory, private_view
from distopt.comm.pages import LARGE
from distopt.comm.private_view import CopiedView, MappedView

PAGE = mmap.PAGESIZE
SIZES = [1, 100, PAGE, 3 * PAGE + 5, LARGE, 2 * LARGE + PAGE + 7]

kinds = pytest.mark.parametrize("kind", [MappedView, CopiedView])
sizes = pytest.mark.parametrize("size", SIZES)


def block_of(size):
    block = memory.thread_block(size, views=True)
    block.bytes[:] = np.random.default_rng(size).integers(0, 256, size)
    return block


def at(block, *places):
    """The ranges of the pages that hold these bytes, no two of them neighbours."""
    size = block.bytes.size
    return [(p // PAGE * PAGE, min((p // PAGE + 1) * PAGE, size)) for p in places]


@kinds
@sizes
def test_a_view_shows_the_block_and_nothing_is_found(kind, size):
    block = block_of(size)
    view = kind(block)
    assert view.bytes.dtype == np.uint8
    assert view.bytes.tobytes() == block.bytes.tobytes()
    assert view.written() == []


@kinds
@sizes
def test_what_is_written_to_the_block_shows(kind, size):
    block = block_of(size)
    view = kind(block)
    block.bytes[:] += 1
    view.refresh()
    assert view.bytes.tobytes() == block.bytes.tobytes()
    assert view.written() == []


@kinds
@sizes
def test_what_is_written_to_the_view_stays_there_and_is_found_and_goes_back(kind, size):
    block = block_of(size)
    view, other = kind(block), kind(block)
    before = block.bytes.copy()
    view.bytes[size // 2] += 1
    assert block.bytes.tobytes() == other.bytes.tobytes() == before.tobytes()
    assert other.written() == []
    assert view.written() == at(block, size // 2)
    view.discard(view.written())
    assert view.bytes.tobytes() == before.tobytes()
    assert view.written() == []


@kinds
def test_ranges_are_joined_and_end_with_the_block(kind):
    block = block_of(10 * PAGE + 5)
    view = kind(block)
    for place in (1 * PAGE, 2 * PAGE + 9, 3 * PAGE - 1, 7 * PAGE, 10 * PAGE + 4):
        view.bytes[place] += 1
    assert view.written() == [(PAGE, 3 * PAGE), (7 * PAGE, 8 * PAGE), (10 * PAGE, 10 * PAGE + 5)]
    view.discard([(7 * PAGE, 8 * PAGE)])
    assert view.bytes[7 * PAGE] == block.bytes[7 * PAGE]
    assert view.written() == [(PAGE, 3 * PAGE), (10 * PAGE, 10 * PAGE + 5)]
    view.bytes[:] += 1
    assert view.written() == [(0, 10 * PAGE + 5)]


@kinds
def test_all_of_a_large_block(kind):
    block = block_of(2 * LARGE + 100)
    view = kind(block)
    view.bytes[:] = 9
    assert view.written() == [(0, 2 * LARGE + 100)]
    view.discard(view.written())
    assert view.bytes.tobytes() == block.bytes.tobytes()


def test_large_views_can_lie_on_large_pages():
    assert MappedView(block_of(LARGE + 5)).bytes.ctypes.data % LARGE == 0


def test_a_page_that_was_written_does_not_follow_the_block_until_it_is_discarded():
    block = block_of(2 * PAGE)
    block.bytes[:] = 0
    view = MappedView(block)
    view.bytes[0] = 5
    block.bytes[:] = 7
    assert view.bytes[[0, 1, PAGE]].tolist() == [5, 0, 7]
    view.discard(view.written())
    assert view.bytes[[0, 1, PAGE]].tolist() == [7, 7, 7]


def test_the_same_value_counts_as_written_where_pages_are_counted():
    view = MappedView(block_of(PAGE))
    view.bytes[3] = view.bytes[3]
    assert view.written() == [(0, PAGE)]


def test_other_processes_find_what_they_have_written_themselves():
    block = block_of(3 * PAGE)
    view = MappedView(block)
    view.bytes[0] += 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        view.bytes[2 * PAGE] += 1
        block.bytes[PAGE] = 77
        os.write(writer, repr(view.written()).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 1000).decode() == repr([(0, PAGE), (2 * PAGE, 3 * PAGE)])
    os.close(reader)
    os.close(writer)
    assert view.written() == [(0, PAGE)]
    assert view.bytes[PAGE] == 77


def test_a_view_of_what_another_process_made():
    block = memory.create_block(2 * PAGE)
    opened = memory.open_block(block.handle, 2 * PAGE, views=True)
    memory.release_handle(block)
    view = MappedView(opened)
    block.bytes[5] = 3
    view.bytes[PAGE] = 4
    assert (view.bytes[5], block.bytes[PAGE], view.written()) == (3, 0, [(PAGE, 2 * PAGE)])


def test_descriptors_and_memory_go_with_block_and_view():
    before, mapped = set(os.listdir("/proc/self/fd")), maps()
    block = memory.thread_block(LARGE + 5, views=True)
    assert block.file is not None
    view = MappedView(block)
    part = view.bytes[7:9]
    del block
    assert set(os.listdir("/proc/self/fd")) == before
    assert part.tolist() == [0, 0]
    del view, part
    assert maps() == mapped


def maps():
    return Path("/proc/self/maps").read_text().count("/memfd:distopt")


def test_blocks_without_views_keep_no_file():
    assert memory.thread_block(100).file is None
    assert memory.create_block(100).file is None


def no_file(monkeypatch):
    def refuse(*_):
        raise OSError("no such thing here")

    monkeypatch.setattr(os, "memfd_create", refuse)


def no_pagemap(monkeypatch):
    plain = os.open

    def refuse(path, *rest):
        if path == "/proc/self/pagemap":
            raise PermissionError(path)
        return plain(path, *rest)

    monkeypatch.setattr(os, "open", refuse)


def everything_looks_written(monkeypatch):
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: np.full(count // 8, 1 << 63, "u8").tobytes())


def nothing_looks_written(monkeypatch):
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: bytes(count))


@pytest.mark.parametrize("lack", [no_file, no_pagemap, everything_looks_written, nothing_looks_written])
def test_where_the_system_cannot_do_it_the_view_is_a_copy(monkeypatch, lack):
    lack(monkeypatch)
    block = memory.thread_block(PAGE, views=True)
    assert isinstance(private_view(block), CopiedView)


def test_where_it_can_the_view_is_mapped():
    assert isinstance(private_view(memory.thread_block(PAGE, views=True)), MappedView)


def test_a_view_that_is_only_read_takes_no_memory():
    block = block_of(8 * LARGE)
    view = private_view(block)
    assert int(view.bytes.max()) == 255
    assert own_memory(view.bytes.ctypes.data) == 0
    view.bytes[::PAGE][:10] += 1
    assert own_memory(view.bytes.ctypes.data) == 10 * PAGE


def own_memory(start):
    """The bytes that this process has for itself of what is mapped from ``start`` on."""
    found = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            found = int(line.split("-")[0], 16)
        elif found == start and line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("not mapped")

"""Where replicas stand, in memory that others read."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from distopt.comm.status_board import StatusBoard


def rows(size):
    block = np.zeros(StatusBoard.room(size), np.uint8)
    return [StatusBoard(block, row, size) for row in range(size)]


def test_everyone_reads_what_each_wrote():
    board = rows(3)
    board[0].write("all_reduce at a.py:1", 5, 2)
    board[2].write("merge_call at b.py:7", 1, 0)
    for reader in board:
        assert [str(status) for status in reader.read()] == [
            "all_reduce at a.py:1 (step 2, call 5)",
            "no collective call yet",
            "merge_call at b.py:7 (call 1)",
        ]


def test_the_same_place_again_counts_on():
    board, place = rows(1)[0], "fit at a.py:1"
    board.write(place, 1, 1)
    board.write(place, 2, 2)
    assert str(board.read()[0]) == "fit at a.py:1 (step 2, call 2)"


def test_a_shorter_place_leaves_nothing_of_a_longer_one():
    board = rows(2)[1]
    board.write("x" * 1000, 1, 0)
    assert 200 < len(board.read()[1].place) < 256
    board.write("gradién at ü.py:3", 2, 0)
    assert board.read()[1].place == "gradién at ü.py:3"
    assert board.read()[0].place == ""


def test_who_waits_and_for_how_long():
    first, second = rows(2)
    first.wait_began()
    time.sleep(0.05)
    assert 0.05 <= second.read()[0].waited < 5
    assert second.read()[1].waited is None
    first.wait_ended()
    assert second.read()[0].waited is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_stopped_process_does_not_wait():
    mine, other = rows(2)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        other.write("a place", 3, 1)
        other.wait_began()
        mine._rows["pid"][1] = child.pid
        assert not mine.read()[1].stopped
        assert mine.read()[1].waited is not None
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert (mine.read()[1].stopped, mine.read()[1].waited) == (True, None)
        assert mine.read()[1].place == "a place"
    finally:
        child.kill()
        child.communicate()

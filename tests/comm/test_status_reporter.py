"""Messages between nodes about who waits: what a broken replica sends is passed over."""

import numpy as np
import pytest

from distopt.comm import status_reporter
from distopt.comm.status_board import StatusBoard
from distopt.comm.status_reporter import _ANSWER, _FORMAT, StatusReporter

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch):
    """What answers there are have come already."""
    monkeypatch.setattr(status_reporter, "_ANSWER_SECONDS", 0.05)


class Status:
    source = tag = length = 0

    def Get_count(self, _kind):
        return self.length


class Messages:
    """As much of mpi4py as is needed: messages that have come, and what becomes of those that are sent."""

    ANY_SOURCE = ANY_TAG = BYTE = None
    Status = Status

    def __init__(self, *texts):
        self.waiting = list(texts)

    def Isend(self, _data, _rank, _tag):
        return self

    def Test(self):
        return True

    def Iprobe(self, _source, _tag, status):
        if self.waiting:
            status.tag, status.length = _ANSWER, len(self.waiting[0])
        return bool(self.waiting)

    def Recv(self, data, _source, _tag):
        text = self.waiting.pop(0)
        data[: len(text)] = text


def report(*texts):
    """What process 0 of three says after five seconds; process 1 is on its node, process 2 is not."""
    messages, block = Messages(*texts), np.zeros(StatusBoard.room(2), np.uint8)
    StatusBoard(block, 1, 2).write("the other", 3, 1)
    hosts = ["here", "here", "there"]
    here = StatusReporter(messages, messages, 0, StatusBoard(block, 0, 2), [0, 1], 3, hosts=hosts)
    here.write("step", 4, 1)
    return here.report(5.0).splitlines()


def answer(rank, waited=9.0, place=b"evaluate"):
    return _FORMAT.pack(rank, 1, 1, waited, place)


def test_a_host_without_an_answer_is_named_with_this_one():
    assert "or the network between here and there is down" in report()[-1]
    assert "network" not in "".join(report(answer(2, waited=3.0)))


def test_an_answer_of_another_node():
    assert report(answer(2, waited=3.0))[-1] == "  replica 2: waits for 3 s in evaluate (step 1, call 1)"
    assert report(answer(2)) == []  # it has waited longer, so it tells


@pytest.mark.parametrize("text", [answer(0), answer(1), answer(3), answer(-1), answer(10**15), b"short", b""])
def test_answers_that_cannot_be_are_passed_over(text):
    lines = report(text)
    assert lines[0] == "distopt: waiting for 5 s, for replicas 0, 1, 2"
    assert "evaluate" not in "".join(lines)
    assert lines[2].startswith("  replica 1: has not arrived; last seen in the other")


def test_a_remark_ends_the_message():
    board = StatusBoard(np.zeros(StatusBoard.room(1), np.uint8), 0, 1)
    board.add_remark(lambda: "replica 0 was last in 92 of the last 100 steps (input)")
    text = StatusReporter(None, None, 0, board, [0], 1).final_report(1.0)
    assert text.endswith("\n  before that, replica 0 was last in 92 of the last 100 steps (input)")

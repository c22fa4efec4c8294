"""The watchdog: says who is waited for, and gives up."""

import time

import pytest

from distopt.comm import patience
from distopt.comm.patience import Patience
from distopt.errors import ReplicaStalled


def after(seconds):
    start = time.monotonic()
    return lambda: time.monotonic() - start > seconds


class Others:
    """Company that waits for replica 1; ``speaks`` is whether this replica is the one to say so."""

    def __init__(self, speaks=True):
        self.speaks, self.log = speaks, []

    def wait(self):
        self.log.append("wait")

    def go_on(self):
        self.log.append("go on")

    def attend(self):
        pass

    def report(self, waited):
        return self.last_report(waited) if self.speaks else ""

    def last_report(self, waited):
        return f"distopt: waiting for {waited:.2f} s: replica 1 has not come"


def test_quiet_while_all_is_well(capsys):
    others, codes = Others(), []
    Patience(5, 10, others, codes.append).until(after(0.05))
    assert capsys.readouterr().err == ""
    assert codes == []
    assert others.log == ["wait", "go on"]


def test_no_wait_is_told_when_there_is_none():
    others = Others()
    Patience(5, 10, others, [].append).until(lambda: True)
    assert others.log == []


def test_says_once_who_is_waited_for(capsys):
    codes = []
    Patience(0.02, 0, Others(), codes.append).until(after(0.3))
    text = capsys.readouterr().err
    assert text.count("distopt: waiting for") == 1
    assert "replica 1 has not come" in text
    assert codes == []


def test_says_nothing_when_it_is_anothers_to_say(capsys):
    Patience(0.02, 0, Others(speaks=False), [].append).until(after(0.1))
    assert capsys.readouterr().err == ""


def test_ends_the_job(capsys):
    others, codes = Others(), []
    start = time.monotonic()
    with pytest.raises(ReplicaStalled, match="replica 1 has not come"):
        Patience(0.02, 0.1, others, codes.append).until(lambda: False)
    assert 0.1 < time.monotonic() - start < 3
    assert codes == [1]
    assert others.log == ["wait", "go on"]
    assert "ending the job (abort limit 0.1 s)" in capsys.readouterr().err


def test_ends_the_job_also_when_the_one_who_should_does_not(capsys, monkeypatch):
    monkeypatch.setattr(patience, "_GRACE", 0.2)
    codes = []
    start = time.monotonic()
    with pytest.raises(ReplicaStalled, match="replica 1 has not come"):
        Patience(0.02, 0.1, Others(speaks=False), codes.append).until(lambda: False)
    assert 0.3 < time.monotonic() - start < 3
    assert codes == [1]
    assert capsys.readouterr().err.count("distopt: waiting for") == 1


def test_the_time_in_which_this_process_was_stopped_does_not_count(monkeypatch, capsys):
    monkeypatch.setattr(patience, "_STOPPED", 0.2)
    looks, codes = [], []

    def done():
        looks.append(None)
        if len(looks) == 3:
            time.sleep(0.6)  # as if stopped and continued
        return len(looks) == 10

    Patience(0.3, 0.5, Others(), codes.append).until(done)
    assert codes == []
    assert capsys.readouterr().err == ""

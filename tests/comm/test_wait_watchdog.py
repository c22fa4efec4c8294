"""The watchdog: says who is waited for, and gives up."""

import time

import pytest

from distopt.comm import watchdog
from distopt.comm.watchdog import Watchdog
from distopt.errors import ReplicaStalled


def after(seconds):
    start = time.monotonic()
    return lambda: time.monotonic() - start > seconds


class Others:
    """A wait observer: replica 1 is waited for; ``longest`` is whether this replica is the one to say so."""

    def __init__(self, longest=True):
        self.longest, self.log = longest, []

    def wait_began(self):
        self.log.append("began")

    def wait_ended(self):
        self.log.append("ended")

    def poll(self):
        pass

    def report(self, waited):
        return self.final_report(waited) if self.longest else ""

    def final_report(self, waited):
        return f"distopt: waiting for {waited:.2f} s: replica 1 has not arrived"


def test_quiet_while_all_is_well(capsys):
    others, codes = Others(), []
    Watchdog(5, 10, others, codes.append).wait_until(after(0.05))
    assert capsys.readouterr().err == ""
    assert codes == []
    assert others.log == ["began", "ended"]


def test_no_wait_is_told_when_there_is_none():
    others = Others()
    Watchdog(5, 10, others, [].append).wait_until(lambda: True)
    assert others.log == []


def test_says_once_who_is_waited_for(capsys):
    codes = []
    Watchdog(0.02, 0, Others(), codes.append).wait_until(after(0.3))
    text = capsys.readouterr().err
    assert text.count("distopt: waiting for") == 1
    assert "replica 1 has not arrived" in text
    assert codes == []


def test_says_nothing_when_it_is_anothers_to_say(capsys):
    Watchdog(0.02, 0, Others(longest=False), [].append).wait_until(after(0.1))
    assert capsys.readouterr().err == ""


def test_ends_the_job(capsys):
    others, codes = Others(), []
    start = time.monotonic()
    with pytest.raises(ReplicaStalled, match="replica 1 has not arrived"):
        Watchdog(0.02, 0.1, others, codes.append).wait_until(lambda: False)
    assert 0.1 < time.monotonic() - start < 3
    assert codes == [1]
    assert others.log == ["began", "ended"]
    assert "ending the job (abort limit 0.1 s)" in capsys.readouterr().err


def test_ends_the_job_also_when_the_one_who_should_does_not(capsys, monkeypatch):
    monkeypatch.setattr(watchdog, "_GRACE", 0.2)
    codes = []
    start = time.monotonic()
    with pytest.raises(ReplicaStalled, match="replica 1 has not arrived"):
        Watchdog(0.02, 0.1, Others(longest=False), codes.append).wait_until(lambda: False)
    assert 0.3 < time.monotonic() - start < 3
    assert codes == [1]
    assert capsys.readouterr().err.count("distopt: waiting for") == 1


def test_the_time_in_which_this_process_was_stopped_does_not_count(monkeypatch, capsys):
    monkeypatch.setattr(watchdog, "_STOPPED", 0.2)
    looks, codes = [], []

    def done():
        looks.append(None)
        if len(looks) == 3:
            time.sleep(0.6)  # as if stopped and continued
        return len(looks) == 10

    Watchdog(0.3, 0.5, Others(), codes.append).wait_until(done)
    assert codes == []
    assert capsys.readouterr().err == ""

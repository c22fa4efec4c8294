"""Overlap: what tells it when to begin, what makes it begin again, and whether it pays."""

import threading
import time

import numpy as np
import overlapped
import overlapped_tapes
import pytest
from replicated import on_replicas

import distopt as tf
from distopt.collectives.progress_thread import ProgressThread
from distopt.comm import SoloCommunicator
from distopt.engine import trial
from distopt.engine.checksum import checksum
from distopt.engine.overlap import Overlap


@pytest.mark.launches
@pytest.mark.parametrize(
    ("processes", "nodes"),
    [(2, 2), pytest.param(4, 2, marks=pytest.mark.slow), pytest.param(6, 3, marks=pytest.mark.slow)],
)
def test_tapes_have_the_bits_of_steps_without_overlap(tmp_path, processes, nodes):
    overlapped.compare(overlapped_tapes, processes, nodes, tmp_path)


def test_nothing_is_said_of_overlap_where_gradients_come_with_the_step(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")

    def program():
        v = tf.Variable(np.zeros(10, np.float32), name="v")
        optimizer = tf.optimizers.SGD(0.1)
        for _ in range(4):
            optimizer.apply_gradients([(np.ones(10, np.float32), v)])
        return optimizer.describe()

    for said in on_replicas(4, program):
        assert "between 2 nodes" in said
        assert "backward pass" not in said


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match="DISTOPT_OVERLAP must be one of auto, on, off; got 'maybe'"):
        Overlap(None, "maybe")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_checksums_see_changes(dtype, size):
    array = np.random.default_rng(0).normal(size=size).astype(dtype)
    before = checksum(array)
    assert checksum(array.copy()) == before
    changed = [-array, array * 2, array + array.dtype.type(1), np.roll(array, 1) if size > 1 else array + 3]
    for k in {0, size // 2, size - 1}:
        one = array.copy()
        one[k] = np.nextafter(one[k], np.inf, dtype=dtype)
        flipped = array.copy()
        flipped[[k, (k + 1) % size]] *= -1 if size > 1 else -2
        changed += [one, flipped]
    assert before not in {checksum(other) for other in changed}


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(trial.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize(
    ("with_it", "without", "verdict"),
    [
        (1.0, 2.0, ""),
        (2.0, 1.0, "steps took 2e+03 ms with overlap, and 1e+03 ms without"),
        (0.99, 1.0, "steps took 990 ms with overlap, and 1e+03 ms without"),  # too little
    ],
)
def test_a_trial_finds_the_faster_way(monkeypatch, with_it, without, verdict):
    clock = Clock(monkeypatch)
    found = trial.Trial(SoloCommunicator())
    found.begin()
    tried = {True: 0, False: 0}
    verdicts = []
    for k in range(100):
        tried[found.on] += 1
        pause = 50.0 if k % 7 == 3 else 0.0  # an evaluation now and then
        clock.now += pause + (with_it if found.on else without)
        verdicts.append(found.count())
    assert any(verdicts) == bool(verdict)
    assert min(tried.values()) >= 16
    assert found.on  # whoever asks has been told to stop
    if verdict:
        assert found.verdict() == verdict


def test_a_trial_is_not_misled_by_other_programs_that_run_for_a_while(monkeypatch):
    clock = Clock(monkeypatch)
    found = trial.Trial(SoloCommunicator())
    found.begin()
    for k in range(40):
        # In one turn with it and in two without: the medians of all steps are 1 and 1.5 seconds.
        clock.now += 2.0 if 15 <= k < 30 else 1.0
        stops = found.count()
    assert stops


class Looked:
    def __init__(self, error=None):
        self.error, self.times, self.threads, self.idle = error, 0, set(), False
        self.thread = ProgressThread(self.look)

    def look(self):
        self.times += 1
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        return self.idle


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_progress_thread_looks_until_it_pauses():
    looked = Looked()
    looked.thread.start()
    wait_for(lambda: looked.times > 3)
    looked.thread.pause()
    times = looked.times
    time.sleep(0.05)
    assert looked.times == times
    looked.thread.start()
    wait_for(lambda: looked.times > times)
    assert threading.get_ident() not in looked.threads
    assert len(looked.threads) == 1


def test_a_progress_thread_looks_no_more_when_nothing_is_left_until_it_starts_again():
    looked = Looked()
    looked.idle = True
    for times in (1, 2, 3):
        looked.thread.start()
        wait_for(lambda times=times: looked.times == times)
        time.sleep(0.02)
        assert looked.times == times


def test_a_start_during_a_look_counts():
    class Restarted(Looked):
        def look(self):
            if self.times == 0:
                self.thread.start()
            self.times += 1
            return True

    looked = Restarted()
    looked.thread.start()
    wait_for(lambda: looked.times == 2)


def test_a_progress_thread_ends_with_its_owner():
    count = sum(thread.name == "distopt-progress" for thread in threading.enumerate())
    owners = [Looked()]
    owners[0].thread.start()
    wait_for(lambda: owners[0].times > 0)
    owners.clear()
    wait_for(lambda: sum(t.name == "distopt-progress" for t in threading.enumerate()) == count)


def test_an_error_of_a_look_comes_up_at_the_next_pause():
    looked = Looked(LookupError("why"))
    looked.thread.start()
    wait_for(lambda: looked.times == 1)
    with pytest.raises(LookupError, match="why"):
        looked.thread.pause()
    looked.thread.pause()

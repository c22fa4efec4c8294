"""Who reads the ledger of a running job: the feed of the launcher, and --live."""

import os
import signal
import time
from contextlib import suppress

import pytest
from distopt_launch.errors import JobStartError
from distopt_launch.job_record import JobRecord
from distopt_launch.ledger import LedgerView, find
from distopt_launch.ledger_feed import LedgerFeed
from distopt_launch.live import run_live

from tests.launch.ledger_file import RING, LedgerFile

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")


@pytest.fixture
def file():
    made = LedgerFile(2)
    yield made
    with suppress(OSError):
        made.close()


def make_steps(file, first, stop, late=0.25):
    """Two calls a step; replica 1 comes late to the first one, after ``late`` more seconds of own code."""
    for step in range(first, stop):
        for part in range(2):
            call, at = 2 * step - 1 + part, float(step)
            own = 0.5 * step
            file.write(call, 0, step=step, arrival=at, own_code=own, waiting=late * step)
            lateness = late if part == 0 else 0.0
            file.write(call, 1, step=step, arrival=at + lateness, own_code=own + late * step)


def test_rows_that_are_written_over_or_not_yet_whole_are_not_there(file):
    make_steps(file, 1, RING)
    ledger = LedgerView(file.path)
    last = 2 * (RING - 1)
    assert ledger.latest_of_all() == last
    assert ledger.row(last - RING, 0) is None
    assert ledger.rows(last - RING + 1) is not None
    file.write(last + 1, 0, step=RING, arrival=1.0)
    assert ledger.latest() == last + 1
    assert ledger.rows(last + 1) is None  # replica 1 has not come yet
    assert ledger.latest_of_all() == last
    row = ledger.row(last, 1)
    assert row.step == RING - 1
    assert dict(zip(("own", "waiting"), (row.seconds[0], row.seconds[3]), strict=True)) == {
        "own": pytest.approx(0.75 * (RING - 1)),
        "waiting": 0.0,
    }


def test_the_feed_sends_each_step_once_by_its_first_call(file):
    record = JobRecord("p", "c", 2)
    sent = []

    def tell(kind, **members):
        sent.append(members)
        record.take(0, {"kind": kind, **members})

    feed = LedgerFeed(os.getpid(), tell)
    feed.proceed()
    assert not sent  # no call yet
    make_steps(file, 1, 5)
    feed.proceed()
    feed.proceed()
    make_steps(file, 5, 8)
    file.close()  # the job has ended: what it wrote is there all the same
    feed.proceed()
    assert record.steps == 7
    assert record.totals[1] == pytest.approx([0.75 * 7, 0, 0, 0, 0, 0])
    assert record.totals[0] == pytest.approx([0.5 * 7, 0, 0, 0.25 * 7, 0, 0])
    heat = record.heat.document()
    assert heat["first"] == [1, 2, 3, 4, 5, 6, 7]
    assert heat["cells"] == [[0.0] * 7, pytest.approx([0.25] * 7)]
    assert max(len(str(members)) for members in sent) < 3000


def test_the_feed_of_many_replicas_keeps_to_short_messages():
    file = LedgerFile(300)
    try:
        for replica in range(300):
            file.write(
                1, replica, step=1, arrival=1000 + replica / 3, own_code=12345.6789, waiting=98765.4321
            )
        record, sent = JobRecord("p", "c", 300), []

        def tell(kind, **members):
            sent.append(str(members))
            record.take(0, {"kind": kind, **members})

        LedgerFeed(os.getpid(), tell).proceed()
        assert max(map(len, sent)) < 2900
        assert len(record.totals) == 300
        assert record.steps == 1
        assert [row[0] for row in record.heat.document()["cells"]] == pytest.approx(
            [r / 3 for r in range(300)]
        )
    finally:
        file.close()


def test_the_newest_ledger_of_a_process_is_found(file):
    older = [LedgerFile(2, started=k) for k in (2, 1)]
    try:
        assert os.stat(find(os.getpid())).st_ino == os.fstat(file.fd).st_ino
        file.close()
        assert os.stat(find(os.getpid())).st_ino != os.fstat(older[1].fd).st_ino
    finally:
        for each in older:
            each.close()


def test_live_prints_once_without_a_terminal(file, capsys):
    make_steps(file, 1, 6)
    file.total(1, last_calls=5, last_own_code=5, cost_own_code=5 * 250_000_000)
    begin = time.monotonic()
    assert run_live([str(os.getpid())]) == 0
    assert time.monotonic() - begin < 5
    title, heads, first, second = capsys.readouterr().out.splitlines()
    assert title.startswith("2 replicas, step 5,")
    assert heads.split()[:3] == ["replica", "own", "code"]
    assert first.split()[0] == "0"
    assert second.split()[0] == "1"


def _show_until_there_are_two():
    while True:
        run_live([])


def test_live_says_what_is_wrong(file, monkeypatch):
    with pytest.raises(JobStartError, match="takes the number of a process"):
        run_live(["train.py"])
    with pytest.raises(JobStartError, match="there is no process 4194304"):
        run_live(["4194304"])
    with pytest.raises(JobStartError, match="process 1 "):
        run_live(["1"])
    job = os.fork()
    if not job:  # a process with another job's ledger
        file.close()
        LedgerFile(7)
        time.sleep(60)
        os._exit(0)
    try:
        with pytest.raises(JobStartError, match=r"there are \d+ jobs; name one") as caught:
            _show_until_there_are_two()
        assert f"{os.getpid()}: 2 replicas, " in str(caught.value)
        with suppress(OSError):
            assert run_live([str(job)]) == 0
    finally:
        os.kill(job, signal.SIGKILL)
        os.waitpid(job, 0)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(JobStartError, match="belongs to another user; only your own jobs can be shown"):
        run_live([str(os.getpid())])
    with pytest.raises(JobStartError, match="there is no job of yours"):
        run_live([])

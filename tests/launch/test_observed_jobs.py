"""Whole jobs under --report, --timeline and --metrics."""

import json

import pytest

from tests.launch.trace_format import check_trace

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.launches, pytest.mark.timeout(120)]

TRAINS = """
import warnings
import numpy as np
import distopt as tf
attempt = int(os.environ["DISTOPT_LAUNCH_RESTART"])
variables = [tf.Variable(np.zeros(200_000, np.float32), name=name) for name in ("left", "right")]
optimizer = tf.optimizers.Adam(0.1)
for step in range(1, 13):
    if attempt == 0 and step == 6 and rank == 1:
        warnings.warn("about to die </script>")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05 + 0.05 * (rank == 1))
    optimizer.apply_gradients([(np.ones(200_000, np.float32), v) for v in variables])
    tf.log_metrics({"loss": 1 / step})
"""

IN_TURNS = """
import numpy as np
import distopt as tf
v, optimizer = tf.Variable(np.zeros(10, np.float32)), tf.optimizers.SGD(0.1)
rank = tf.distribute.get_replica_context().replica_id_in_sync_group
for step in range(1, 11):
    time.sleep(0.05 * (rank == 1))
    optimizer.apply_gradients([(np.ones(10, np.float32), v)])
    tf.log_metrics({"loss": 1 / step})
    time.sleep(0.1)  # metrics of a tenth of a second are averaged
tf.distribute.get_replica_context().all_reduce("sum", 1.0)
sys.exit(3)
"""

PHASES = (("own code", "--own"), ("waiting", "--wait"))


def data_of(file):
    return json.loads(file.read_text().partition('id="data">')[2].partition("</script>")[0])


@pytest.mark.slow
def test_a_job_over_nodes_that_is_started_again(launch, tmp_path):
    names = {name: tmp_path / name for name in ("report.html", "trace.json", "job.prom")}
    words = ("-n", "2", "--max-restarts", "1", "--report", str(names["report.html"]))
    words += ("--timeline", str(names["trace.json"]), "--timeline-steps", "3:5")
    words += ("--metrics", str(names["job.prom"]))
    done = launch(TRAINS, *words, env={"DISTOPT_NODES": "2"})
    assert done.code == 0, done.err
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in names.values())

    report = data_of(names["report.html"])
    assert not report["failed"]
    killed, ended = (attempt["outcome"] for attempt in report["attempts"])
    assert killed == "replica 1 was killed by signal 9 (SIGKILL)"
    assert ended == "exit code 0"
    assert any("about to die </script>" in w["text"] and w["replica"] == 1 for w in report["warnings"])
    assert "mean" not in report["pipelines"][0]
    assert "sum over 2 replicas -> Adam(" in report["pipelines"][0]
    assert report["hosts"][0]["processes"] == "0 to 1"
    assert set(report["usage"]["rss"]) == {"0", "1"}
    assert min(report["usage"]["rss"]["1"]["value"]) > 10e6
    own, waiting = (report["phases"].index({"name": n, "colour": c}) for n, c in PHASES)
    totals = report["totals"]
    # Replica 1 sleeps for 50 ms more: 12 steps, and those of 5 in the first attempt that were seen in time:
    # the launcher looks once a second, and a killed job is not looked at again.
    assert 0.8 * 0.05 * 12 < totals[1][own] - totals[0][own] < 3 * 0.05 * 17
    assert totals[0][waiting] > 0.7 * 0.05 * 12 > 3 * totals[1][waiting]
    late = [cell for cell in report["heat"]["cells"][1] if cell is not None]
    assert len(late) == 12
    assert sorted(late)[6] == pytest.approx(0.05, abs=0.03)
    loss = report["metrics"]["loss"]["value"]
    assert loss[-1] == pytest.approx(1 / 12)

    complete, arrows = check_trace(json.loads(names["trace.json"].read_text()))
    assert set(complete) == {0, 1}
    for replica, events in complete.items():
        spans = {}
        for event in events:
            spans.setdefault(event["name"], []).append(event)
        sleeps = 50e3 * (1 + replica)
        assert [sleeps <= e["dur"] < 3 * sleeps for e in spans["own code"]] == [True, True]  # steps 3 and 4
        assert len(spans["apply_gradients"]) == 2
        assert len(spans["header"]) >= 2
        assert any(event["tid"] > 1 for event in spans["wire"])
        updates = [event for event in events if event["name"].startswith("update of block")]
        assert {"left:0", "right:0"} & set(updates[0]["args"]["variables"].split(", "))
    assert {(a["s"]["pid"], a["f"]["pid"]) for a in arrows} == {(0, 1), (1, 0)}

    metrics = names["job.prom"].read_text()
    assert 'distopt_job_restarts_total{program="' in metrics
    assert 'name="loss"} 0.0833' in metrics


def test_replicas_of_one_process(launch, tmp_path):
    """They take turns; the report says what they would wait for if they did not."""
    names = {name: tmp_path / name for name in ("report.html", "trace.json", "job.prom")}
    words = ("--in-process", "2", "--report", str(names["report.html"]))
    words += ("--timeline", str(names["trace.json"]), "--timeline-steps", "3:5")
    words += ("--metrics", str(names["job.prom"]))
    done = launch(IN_TURNS, *words)
    assert done.code == 3, done.err
    report = data_of(names["report.html"])
    assert report["attempts"][0]["outcome"] == "exit code 3"
    own, waiting = (report["phases"].index({"name": n, "colour": c}) for n, c in PHASES)
    totals = report["totals"]
    late = totals[1][own] - totals[0][own]
    assert late > 0.8 * 9 * 0.05
    assert totals[0][waiting] == pytest.approx(late, rel=0.2)
    assert report["metrics"]["loss"]["value"][-1] == 0.1
    complete, _ = check_trace(json.loads(names["trace.json"].read_text()))
    assert [len([e for e in complete[r] if e["name"] == "apply_gradients"]) for r in (0, 1)] == [2, 2]
    assert 'distopt_job_steps_total{program="' in names["job.prom"].read_text()


def test_the_timeline_of_a_job_that_an_exception_ends(launch, tmp_path):
    """It has the steps before the exception, though more were to be recorded."""
    trace = tmp_path / "trace.json"
    text = """
import distopt as tf
optimizer, w = tf.optimizers.SGD(0.1), tf.Variable([0.0], name="w")
for _ in range(3):
    optimizer.apply_gradients([(w + 1.0, w)])
raise ValueError
"""
    assert launch(text, "-n", "2", "--timeline", str(trace)).code == 1
    complete, _ = check_trace(json.loads(trace.read_text()))
    # The replica that raises first may end the other one before that has sent its own.
    steps = [[e["name"] for e in events].count("apply_gradients") for events in complete.values()]
    assert set(steps) == {3}


def test_a_job_that_is_killed_leaves_its_report_behind(launch, tmp_path):
    report = tmp_path / "report.html"
    text = "ready()\ntime.sleep(60)"
    done = launch(text, "-n", "2", "--report", str(report), "--grace", "1", send=(15, 2))
    assert done.code == 143
    data = data_of(report)
    assert data["failed"]
    assert data["outcome"] == "ended by SIGTERM"


def test_a_report_that_cannot_be_written_is_refused_before_the_start(launch, tmp_path):
    for path, why in [
        ("no/report.html", "there is no folder"),
        (".", "this name is taken"),
        ("train.py", "is a program"),
    ]:
        done = launch("", "-n", "2", "--report", str(tmp_path / path))
        assert done.code == 2
        assert why in done.last
    assert not done.replicas

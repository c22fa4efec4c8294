"""The report, its record, and the metrics file: what goes in comes out, and nothing of it is code."""

import json
import re

import pytest
from distopt_launch.job_record import PHASES, JobRecord
from distopt_launch.metrics_file import exposition
from distopt_launch.protocol import Event, decode, encode
from distopt_launch.report_page import page, spans
from distopt_launch.telemetry import LONGEST, Wishes, message, parsed

NASTY = '</script><script>alert("1")</script><img src=x onerror=alert(2)>\n\\"@data@'


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def record():
    """A job of two replicas with one restart, every text of which is an attack."""
    clock = Clock()
    made = JobRecord(NASTY, NASTY, 2, clock)
    made.begin()
    for rank in range(2):
        made.take(rank, {"kind": "host", "host": NASTY, "cores": 4, "threads": NASTY})
        made.take(rank, {"kind": "usage", "rss": 1e9, "cpu": 1.0})
    clock.now += 2
    made.take(1, {"kind": "usage", "rss": 2e9, "cpu": 2.0})
    totals = [[0, [1.0, 0, 0, 3.0, 1.0, 0]], [1, [4.0, 0, 0, 0, 1.0, 0]]]
    steps = {"kind": "steps", "replicas": 2, "first": 1, "last": 10, "totals": totals, "counts": 10}
    made.take(0, {**steps, "offsets": [[0, 0.0], [1, 0.25]]})
    made.line(1, b"train.py:3: RuntimeWarning: " + NASTY.encode())
    made.line(1, b"nothing to see")
    made.warn(-1, NASTY)
    made.end(137, "replica 1 was killed")
    made.begin()
    clock.now += 2
    made.take(0, {**steps, "first": 1, "offsets": []})
    made.take(0, {"kind": "metrics", "step": 10, "values": {NASTY: 0.5, "nan": float("nan")}})
    made.take(0, {"kind": "pipeline", "text": NASTY})
    made.take(0, {"kind": "checkpoint", "step": 10, "seconds": 0.5, "path": NASTY})
    made.end(0, "")
    return made


def test_no_text_of_the_program_is_code(record):
    text = page(record)
    assert len(re.findall("<script", text, re.IGNORECASE)) == 2  # the data, and our own
    assert len(re.findall("</script", text, re.IGNORECASE)) == 2
    assert "<img" not in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]  # a name: no network


def test_the_page_holds_what_is_known(record):
    data = json.loads(page(record).partition('id="data">')[2].partition("</script>")[0])
    assert data["program"] == data["command"] == NASTY
    assert data["outcome"] == "exit code 0"
    assert [a["outcome"] for a in data["attempts"]] == ["replica 1 was killed", "exit code 0"]
    assert data["steps"] == 20
    assert data["totals"] == [[2.0, 0, 0, 6.0, 2.0, 0], [8.0, 0, 0, 0, 2.0, 0]]  # of both attempts
    assert data["heat"]["cells"][1] == pytest.approx([0.25] * 10)
    assert data["usage"]["rss"]["1"] == {"time": [0.0, 2.0], "value": [1e9, 2e9]}
    assert data["usage"]["cpu"]["1"] == {"time": [2.0], "value": [0.5]}
    assert data["metrics"][NASTY[:100]] == {"step": [10], "value": [0.5]}
    assert [w["replica"] for w in data["warnings"]] == [1, -1]
    assert data["hosts"] == [{"host": NASTY, "processes": "0 to 1", "cores": 4, "threads": NASTY[:20]}]


@pytest.mark.parametrize(
    "text",
    [
        {"kind": "steps", "replicas": -1, "first": 0, "last": 0, "totals": [], "offsets": []},
        {"kind": "steps", "replicas": 2, "first": 1, "last": 2, "totals": [[0, [1]]], "offsets": []},
        {"kind": "usage", "rss": "much", "cpu": 1},
        {"kind": "usage", "rss": float("inf"), "cpu": 1},
        {"kind": "metrics", "step": None, "values": {}},
        {"kind": "metrics", "step": 1, "values": [1]},
        {"kind": "host"},
        {"kind": ["steps"]},
        {"kind": "no such kind"},
    ],
)
def test_malformed_messages_change_nothing(text):
    record = JobRecord("p", "c", 2, Clock())
    before = page(record)
    record.take(0, text)
    assert page(record) == before


def test_messages_pass_as_events_and_nothing_else_does():
    event = message(3, "pipeline", text="two  blanks\nand a line")
    assert decode(encode(event).rstrip(b"\n")) == event
    assert parsed(event) == {"kind": "pipeline", "text": "two  blanks\nand a line"}
    assert len(encode(event).splitlines()) == 1
    assert message(0, "pipeline", text="x" * LONGEST) is None
    for text in ("[1]", "{", '{"kind":1}', "[" * 100_000, "1"):
        assert parsed(Event("telemetry", 0, (text,))) is None
    assert str(Wishes()) == ""
    assert str(Wishes(timeline=(3, 7))) == "telemetry timeline=3:7"


SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\n"])*",?)*\})? '
    r"(?P<value>[-+]?[0-9.e+-]+)"
)


def test_the_metrics_file_is_in_prometheus_format(record):
    """By the grammar of https://prometheus.io/docs/instrumenting/exposition_formats/."""
    text = exposition(record)
    assert text.endswith("\n")
    kinds, values = {}, {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE")
            if word == "TYPE":
                assert name not in kinds
                kinds[name] = rest
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample["name"] in kinds
            assert sample["name"].endswith("_total") == (kinds[sample["name"]] == "counter")
            values.setdefault(sample["name"], []).append(float(sample["value"]))
    assert set(kinds.values()) == {"counter", "gauge"}
    assert values["distopt_job_steps_total"] == [20]
    assert values["distopt_job_restarts_total"] == [1]
    assert values["distopt_job_running"] == [0]
    assert sum(values["distopt_phase_seconds_total"]) == 20
    assert len(values["distopt_phase_seconds_total"]) == 2 * len(PHASES)
    prometheus = pytest.importorskip("prometheus_client.parser")
    families = {family.name: family for family in prometheus.text_string_to_metric_families(text)}
    labels = families["distopt_metric"].samples[0].labels
    assert labels == {"program": NASTY, "name": NASTY[:100]}


def test_numbers_in_words():
    assert spans([0, 1, 2, 5, 7, 8]) == "0 to 2, 5, 7 to 8"
    assert spans([]) == ""

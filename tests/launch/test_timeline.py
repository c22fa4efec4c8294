"""The timeline's file: Chrome trace events of what replicas send."""

import json

from distopt_launch.job_record import JobRecord
from distopt_launch.timeline import Timeline

from tests.launch.trace_format import check_trace

ORIGIN = 1_796_000_000_123_456_789


def trace_of(*messages):
    timeline = Timeline((3, 5))
    timeline.begin()
    for message in messages:
        timeline.take(message)
    return json.loads(timeline.text(JobRecord("p", "c", 2)))


def test_spans_lanes_and_arrows():
    one = {"replica": 0, "host": "a", "origin": ORIGIN, "kind": "spans"}
    two = {"replica": 1, "host": "<b>", "origin": ORIGIN + 50_000, "kind": "spans"}
    trace = trace_of(
        {**one, "rows": [["X", "inner", 10.5, 2, {"variables": "w"}], ["X", "outer", 10.5, 5, {}]]},
        {**one, "rows": [["W", "wire", 1, 9, {}], ["W", "wire", 2, 3, {}], ["W", "wire", 6, 1, {}]]},
        {**one, "rows": [["s", "m1", 12], ["s", "lost", 13]]},
        {**two, "rows": [["X", "own code", 0, 100, {}], ["f", "m1", -40], ["f", "stray", 3]]},
    )
    complete, arrows = check_trace(trace)
    assert trace["otherData"]["steps"] == "3 to 4"
    shown = [(e["name"], e["tid"], e["ts"], e["dur"]) for e in complete[0]]
    assert shown[:2] == [("outer", 1, 9.5, 5), ("inner", 1, 9.5, 2)]  # after the earliest span of all
    assert shown[2:] == [("wire", 2, 0, 9), ("wire", 3, 1, 3), ("wire", 3, 5, 1)]  # no two at once in a lane
    assert [(e["ts"], e["args"]) for e in complete[1]] == [(49, {})]
    # The clocks differ by a little: the message seems to have come before it was sent.
    assert [(a["s"]["pid"], a["f"]["pid"], a["s"]["ts"], a["f"]["ts"]) for a in arrows] == [(0, 1, 11, 11)]
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert names == ["replica 0 on a", "replica 1 on <b>"]


def test_malformed_rows_are_passed_over():
    bad = [
        {"kind": "spans"},
        {"replica": 0, "host": "a", "origin": "x", "rows": []},
        *({"replica": 0, "host": "a", "origin": 1, "rows": [row]} for row in (3, [], ["X"], ["X", 1, 2])),
        {"replica": 0, "host": "a", "origin": 1, "rows": [["X", "n", float("nan"), 1, {}]]},
        {"replica": 0, "host": "a", "origin": 1, "rows": [["X", "n", 1, float("inf"), {}]]},
        {"replica": 0, "host": "a", "origin": 1, "rows": [["X", "n", 1, 1, "no dict"]]},
    ]
    assert check_trace(trace_of(*bad)) == ({}, [])


def test_a_restart_begins_anew():
    timeline = Timeline((1, 2))
    message = {"replica": 0, "host": "a", "origin": 0, "rows": [["X", "first", 1, 1, {}]]}
    timeline.take(message)
    timeline.begin()
    timeline.take({**message, "rows": [["X", "second", 1, 1, {}]]})
    complete, _ = check_trace(json.loads(timeline.text(JobRecord("p", "c", 1))))
    assert [event["name"] for event in complete[0]] == ["second"]

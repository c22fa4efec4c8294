"""Chrome's trace event format, as far as the timeline uses it, checked by its description.

Source: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

NUMBERS = (int, float)


def check_trace(trace):
    """Raises AssertionError where it is not in the format; returns complete events by process."""
    assert set(trace) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    named, complete, arrows = set(), {}, {}
    for event in trace["traceEvents"]:
        kind = event["ph"]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        if kind == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name")
            named.add((event["pid"], event["name"]))
            continue
        assert isinstance(event["ts"], NUMBERS)
        assert event["ts"] >= 0
        if kind == "X":
            assert isinstance(event["dur"], NUMBERS)
            assert event["dur"] >= 0
            assert isinstance(event["args"], dict)
            complete.setdefault(event["pid"], []).append(event)
        else:
            assert kind in ("s", "f")
            assert kind == "s" or event["bp"] == "e"
            key = event["cat"], event["name"], event["id"]
            assert kind not in arrows.setdefault(key, {})
            arrows[key][kind] = event
    for replica, events in complete.items():
        assert {(replica, "process_name"), (replica, "thread_name")} <= named
        for thread in {event["tid"] for event in events}:
            check_nesting([event for event in events if event["tid"] == thread])
    for ends in arrows.values():
        assert set(ends) == {"s", "f"}
        assert ends["s"]["ts"] <= ends["f"]["ts"]
        assert ends["s"]["pid"] != ends["f"]["pid"]
    return complete, list(arrows.values())


def check_nesting(events):
    """Spans of one thread lie beside or in one another; else viewers show them wrongly."""
    open_until = []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        while open_until and open_until[-1] <= event["ts"] + 1e-3:
            open_until.pop()
        end = event["ts"] + event["dur"]
        assert not open_until or end <= open_until[-1] + 1e-3, event
        open_until.append(end)

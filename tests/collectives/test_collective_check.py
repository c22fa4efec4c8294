"""Headers: what they hold together, and what they say when replicas part."""

import pytest

from distopt.collectives import CollectiveCheck, digest, user_call
from distopt.comm import TurnScheduler, in_process_world, solo_world
from distopt.distribute.virtual import run_threads
from distopt.errors import ReplicaFailed, ReplicaMismatch


def on(size, program):
    """``program(collective_check, rank)`` on each replica; what each returned or raised."""
    scheduler = TurnScheduler(size)

    def life(index):
        world = in_process_world(scheduler, index)
        collective_check = CollectiveCheck(world, lambda: None)
        try:
            return program(collective_check, index)
        except RuntimeError as error:
            return error

    return run_threads(scheduler, life)


def test_digest_is_the_same_in_every_process():
    assert 0 <= digest("apply_gradients") < 2**64
    assert digest("a") != digest("b")


def test_user_line_is_outside_the_package():
    assert user_call()[1].startswith("test_collective_check.py:")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_flags_of_all(size):
    results = on(size, lambda a, rank: a.check("call", 1, lambda: "", flags=rank * 10))
    assert results == [[10 * r for r in range(size)]] * size


def test_alone_only_errors_count():
    world = solo_world()
    collective_check = CollectiveCheck(world, lambda: None)
    assert collective_check.check("a", 1, lambda: "", flags=5) == [5]
    with pytest.raises(KeyError, match="own"):
        collective_check.check("b", 1, lambda: "", KeyError("own"))
    collective_check.finish()
    assert collective_check.calls == 2


@pytest.mark.parametrize(
    "calls",
    [
        lambda rank: ("a" if rank == 1 else "b", 7),
        lambda rank: ("a", 8 if rank == 2 else 7),
    ],
    ids=["kind", "fingerprint"],
)
def test_one_error_on_all_names_both_calls_and_the_replicas(calls):
    def program(collective_check, rank):
        kind, fingerprint = calls(rank)
        collective_check.check(kind, fingerprint, lambda: f"{kind}({fingerprint})")

    errors = on(3, program)
    assert {type(e) for e in errors} == {ReplicaMismatch}
    assert len({str(e) for e in errors}) == 1
    text = str(errors[0])
    for rank in range(3):
        kind, fingerprint = calls(rank)
        line = next(line for line in text.splitlines() if f"{kind}({fingerprint})" in line)
        assert str(rank) in line.split(":")[0]
    assert "test_collective_check.py:" in text
    assert "nothing was applied" in text


def test_the_same_call_after_another_number_of_calls():
    def program(collective_check, rank):
        collective_check._calls += rank  # as if this replica had made one call that the other had not
        collective_check.check("call", 1, lambda: "call")

    errors = on(2, program)
    assert [type(e) for e in errors] == [ReplicaMismatch] * 2
    assert "numbers of calls" in str(errors[0])


def test_an_error_on_one_is_told_to_all():
    def program(collective_check, rank):
        collective_check.check("call", 1, lambda: "call", ValueError("bad number") if rank == 1 else None)

    with pytest.raises(ValueError, match="bad number"):
        on(3, program)

    seen = []

    def keep(collective_check, rank):
        try:
            program(collective_check, rank)
        except (RuntimeError, ValueError) as error:
            seen.append((rank, error))

    on(3, keep)
    by_rank = dict(seen)
    assert str(by_rank[1]) == "bad number"
    for rank in (0, 2):
        assert isinstance(by_rank[rank], ReplicaFailed)
        assert "replica 1 of 3" in str(by_rank[rank])
        assert str(by_rank[rank]).endswith("ValueError: bad number")


def test_the_end_of_one_while_others_call():
    def program(collective_check, rank):
        if rank == 1:
            collective_check.finish()
        else:
            collective_check.check("call", 1, lambda: "the call")

    errors = on(2, program)
    assert [type(e) for e in errors] == [ReplicaMismatch] * 2
    assert "replica 1: the end of its program" in str(errors[0])
    assert ", in the call\n" in str(errors[0])


def test_the_end_of_all():
    def program(collective_check, rank):
        collective_check.check("call", 1, lambda: "the call")
        collective_check.finish()
        collective_check.finish()
        return collective_check.calls

    assert on(3, program) == [2, 2, 2]

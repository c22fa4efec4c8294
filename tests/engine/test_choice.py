"""Which of two ways is taken."""

from distopt.engine.choice import Choice


def ways(choice, steps, seconds):
    """The ways taken in so many steps, of which each takes ``seconds(way, step)``."""
    taken = []
    for step in range(steps):
        way = choice.way()
        choice.took(seconds(way, step))
        taken.append(way)
    return taken


def test_the_faster_way_is_taken_nearly_always():
    for faster in (False, True):
        taken = ways(Choice(), 10_000, lambda way, _: 1.0 if way == faster else 1.5)
        assert taken.count(not faster) < 60


def test_one_slow_step_decides_nothing():
    taken = ways(Choice(), 60, lambda way, step: 9.0 if step == 1 else 2.0 - way)
    assert all(taken[6:])


def test_a_change_of_the_machine_is_found():
    taken = ways(Choice(), 4000, lambda way, step: 1.0 if way == (step < 2000) else 1.5)
    assert taken[1900:2000].count(True) > 95
    assert taken[3900:].count(False) > 95

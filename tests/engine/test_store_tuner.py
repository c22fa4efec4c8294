"""Which of two ways is taken."""

from distopt.engine.store_tuner import StoreTuner


def ways(choice, steps, seconds):
    """The ways taken in so many steps, of which each takes ``seconds(way, step)``."""
    taken = []
    for step in range(steps):
        way = choice.choose()
        choice.observe(seconds(way, step))
        taken.append(way)
    return taken


def test_the_faster_way_is_taken_nearly_always():
    for faster in (False, True):
        taken = ways(StoreTuner(), 10_000, lambda way, _: 1.0 if way == faster else 1.5)
        assert taken.count(not faster) < 0.03 * len(taken)


def test_one_slow_step_decides_nothing():
    taken = ways(StoreTuner(), 16, lambda way, step: 9.0 if step == 1 else 2.0 - way)
    assert all(taken[6:])


def test_slow_steps_now_and_then_change_nothing():
    taken = ways(StoreTuner(), 2000, lambda way, step: 1.0 + way + 5.0 * (step % 4 == 0))
    assert taken.count(True) < 0.05 * len(taken)


def test_a_change_of_the_machine_is_found_at_once():
    taken = ways(StoreTuner(), 4000, lambda way, step: 1.0 if way == (step < 2000) else 1.5)
    assert taken[1900:2000].count(True) > 95
    assert not any(taken[2012:2020])
    assert taken[2020:].count(True) < 0.04 * len(taken[2020:])


def test_a_change_that_only_the_other_way_gains_by_is_found_in_time():
    taken = ways(StoreTuner(), 4000, lambda way, step: 1.0 if not way else 1.5 if step < 500 else 0.5)
    assert taken[3500:].count(True) > 450

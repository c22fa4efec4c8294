"""What variables and gradients of a step may be like, the same on any number of replicas."""

import numpy as np
import programs
import pytest

import distopt
from distopt import IndexedSlices, Variable
from distopt.optimizers import SGD, Adam, schedules

ALL = [*programs.OPTIMIZERS, "Momentum"]
make = lambda name: programs.Momentum() if name == "Momentum" else programs.make(name)  # noqa: E731


def ones(*shape, dtype="f4"):
    return np.ones(shape, dtype)


def test_initial_values_are_those_of_replica_0(replicas):
    def program():
        v = Variable([1.0 + programs.rank(), 5.0])
        w = Variable(float(programs.rank()), dtype="float64")
        optimizer = SGD(1.0)
        optimizer.apply_gradients([(np.zeros(2, "f4"), v), (np.float64(0), w)])
        return v.numpy().tolist(), float(w)

    assert replicas.run(program) == [([1.0, 5.0], 0.0)] * replicas.size


def test_initial_slots_are_those_of_replica_0(replicas):
    def program():
        v = Variable([1.0])
        optimizer = SGD(1.0, momentum=0.5)
        slot = optimizer.add_slot(v, "momentum", initializer=np.array([8.0 * (programs.rank() + 1)], "f4"))
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
        return slot.numpy().tolist(), v.numpy().tolist()

    assert replicas.run(program) == [([4.0], [5.0])] * replicas.size


@pytest.mark.parametrize("name", programs.each(ALL))
def test_zero_size_and_scalar_variables(replicas, name):
    def program():
        variables = [Variable(np.zeros((0, 3), "f4"), name="none"), Variable(2.0, name="scalar")]
        optimizer = make(name)
        for _ in range(3):
            optimizer.apply_gradients([(np.zeros((0, 3), "f4"), variables[0]), (1.0, variables[1])])
        return variables[0].shape, float(variables[1]), int(optimizer.iterations)

    results = replicas.run(program)
    assert results == [results[0]] * replicas.size
    shape, value, iterations = results[0]
    assert (shape, iterations) == ((0, 3), 3)
    assert value < 2.0


@pytest.mark.parametrize("clips", [{}, {"clipvalue": 1.0}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
def test_nothing_but_empty_variables(replicas, clips):
    def program():
        v = Variable(np.zeros((0, 3), "f4"))
        optimizer = Adam(**clips)
        optimizer.apply_gradients([(np.zeros((0, 3), "f4"), v)])
        return int(optimizer.iterations)

    assert replicas.run(program) == [1] * replicas.size


def test_a_global_norm_over_several_dtypes_is_refused_on_all(replicas):
    def program():
        variables = [Variable([1.0], dtype=d, name=d) for d in ("float32", "float64")]
        optimizer = SGD(1.0, global_clipnorm=1.0)
        with pytest.raises(ValueError, match="global norm needs gradients of one dtype"):
            optimizer.apply_gradients([(ones(1, dtype=v.dtype), v) for v in variables])
        return [float(v[0]) for v in variables], int(optimizer.iterations)

    assert replicas.run(program) == [([1.0, 1.0], 0)] * replicas.size


@programs.with_clips(ALL, clips=("clipvalue", "clipnorm"))
def test_mixed_dtypes(replicas, name, clips):
    """Each replica's part of a gradient; float16 values are small whole numbers, so sums are exact."""
    dtypes = ["float16", "float32", "float64", "float32"]

    def program(parts):
        generator = np.random.default_rng(5)
        variables = [Variable(generator.normal(size=4).astype(d), name=d) for d in dtypes]
        optimizer = (
            programs.Momentum(**clips) if name == "Momentum" else programs.make(name, **clips, **epsilon)
        )
        for step in range(3):
            gradients = np.random.default_rng([6, step]).integers(1, 4, size=(4, 4))
            mine = gradients * parts(4)
            optimizer.apply_gradients([(g.astype(d), v) for g, d, v in zip(mine, dtypes, variables)])
        return programs.state(optimizer, variables)

    epsilon = {} if name in ("SGD", "Ftrl", "Lion", "Adafactor") else {"epsilon": 1e-3}
    results = replicas.run(lambda: program(lambda n: np.arange(n) % programs.size() == programs.rank()))
    want = programs.alone(lambda: program(lambda n: np.ones(n, bool)))
    assert programs.equal(results)
    assert programs.same_bits(results[0], want)


@pytest.mark.parametrize("name", programs.each(ALL))
def test_variables_without_gradient_and_variables_that_join_later(replicas, name):
    def program():
        variables = [Variable([1.0, 2.0], name=f"v{i}") for i in range(4)]
        optimizer = make(name)
        g = np.full(2, (programs.rank() + 1) / 8, "f4")
        for present in ({0, 1}, {1}, {0, 1, 3}, {3}):
            optimizer.apply_gradients([(g if i in present else None, v) for i, v in enumerate(variables)])
        names = [w.name.split("/")[-2] for w in optimizer.weights if "/v" in w.name]
        return programs.state(optimizer, variables), names

    def whole():
        variables = [Variable([1.0, 2.0], name=f"v{i}") for i in range(4)]
        optimizer = make(name)
        g = np.full(2, sum(range(1, replicas.size + 1)) / 8, "f4")
        for present in ({0, 1}, {1}, {0, 1, 3}, {3}):
            optimizer.apply_gradients([(g if i in present else None, v) for i, v in enumerate(variables)])
        return programs.state(optimizer, variables)

    results = replicas.run(program)
    values, names = results[0]
    assert programs.equal([r[0] for r in results])
    assert programs.same_bits(values, programs.alone(whole))
    assert values[0][2].tolist() == [1.0, 2.0]  # it never had a gradient
    assert "v2" not in names
    assert names == [] or names.index("v3") == names.count("v0") + names.count("v1")  # appended


def slices(rows, indices, width=2):
    values = np.asarray(rows, "f4")
    return IndexedSlices(values, np.asarray(indices, "i8"), (6, width))


@pytest.mark.parametrize("name", programs.each(ALL))
def test_sparse_gradients_are_joined(replicas, name):
    """Each replica has rows of its own, with duplicates; together they are one sparse gradient."""

    def rows_of(replica, step):
        generator = np.random.default_rng([replica, step])
        count = replica + 1
        return (
            generator.integers(1, 9, (count, 2)).astype("f4") / 8,
            generator.integers(0, 6, count) if step else np.full(count, replica % 6),
        )

    def program(parts):
        v, w = Variable(np.ones((6, 2), "f4"), name="table"), Variable([1.0], name="dense")
        optimizer = make(name)
        for step in range(3):
            pieces = [rows_of(r, step) for r in parts()]
            g = slices(np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces]))
            optimizer.apply_gradients([(g, v), (np.full(1, len(pieces), "f4"), w)])
        return programs.state(optimizer, [v, w])

    results = replicas.run(lambda: program(lambda: [programs.rank()]))
    assert programs.equal(results)
    assert programs.same_bits(results[0], programs.alone(lambda: program(lambda: range(replicas.size))))


@pytest.mark.parametrize("clips", [{"clipvalue": 0.5}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}])
def test_sparse_here_and_dense_there_are_clipped_as_dense(replicas, clips):
    """Rows and arrays of one variable: what is clipped is their sum, a dense array."""

    def program(gradients):
        v, optimizer = Variable(np.ones((6, 2), "f4")), Adam(0.1, **clips)
        optimizer.apply_gradients([(gradients(), v)])
        return programs.state(optimizer, [v])

    dense = np.full((6, 2), 0.25, "f4")
    want = dense * (replicas.size - 1)
    want[3] += [1.0, 2.0]
    if replicas.size == 1:
        return
    results = replicas.run(
        lambda: program(lambda: slices([[1.0, 2.0]], [3]) if programs.rank() == 0 else dense)
    )
    assert programs.equal(results)
    assert programs.same_bits(results[0], programs.alone(lambda: program(lambda: want)))


@pytest.mark.parametrize("name", programs.each(ALL))
def test_sparse_here_and_dense_there_are_summed(replicas, name):
    def program():
        v, w = Variable(np.ones((6, 2), "f4"), name="a"), Variable(np.ones((6, 2), "f4"), name="b")
        optimizer = make(name)
        dense = np.full((6, 2), 0.5, "f4")
        mine = slices([[1.0, 2.0], [1.0, 1.0]], [3, 3]) if programs.rank() == 0 else dense
        other = dense if programs.rank() == 0 else slices([[1.0, 1.0]], [5])
        for _ in range(2):
            optimizer.apply_gradients([(mine, v), (other, w)])
        return programs.state(optimizer, [v, w])

    def theory():
        v, w = Variable(np.ones((6, 2), "f4"), name="a"), Variable(np.ones((6, 2), "f4"), name="b")
        optimizer = make(name)
        first = slices([[1.0, 2.0], [1.0, 1.0]], [3, 3])
        last = np.full((6, 2), 0.5, "f4")
        if replicas.size > 1:
            first = np.full((6, 2), 0.5 * (replicas.size - 1), "f4")
            first[3] += [2.0, 3.0]
            last[5] += replicas.size - 1
        for _ in range(2):
            optimizer.apply_gradients([(first, v), (last, w)])
        return programs.state(optimizer, [v, w])

    results = replicas.run(program)
    assert programs.equal(results)
    assert programs.same_bits(results[0], programs.alone(theory))


def test_empty_rows_on_some_replicas(replicas):
    def program():
        v, optimizer = Variable(np.ones((6, 2), "f4")), Adam(0.1)
        mine = slices([[1.0, 1.0]], [2]) if programs.rank() == 0 else slices(np.zeros((0, 2)), [])
        optimizer.apply_gradients([(mine, v)])
        optimizer.apply_gradients([(slices(np.zeros((0, 2)), []), v)])
        return programs.state(optimizer, [v])

    results = replicas.run(program)
    assert programs.equal(results)
    moved = results[0][0][0] != 1.0
    assert moved.tolist() == [[i == 2] * 2 for i in range(6)]


def test_learning_rate_may_be_assigned_and_scheduled(replicas):
    def program():
        v, optimizer = Variable([0.0]), SGD(1.0)
        optimizer.apply_gradients([(ones(1), v)])
        optimizer.learning_rate = 0.5
        optimizer.apply_gradients([(ones(1), v)])
        optimizer.learning_rate.assign(0.25)
        optimizer.apply_gradients([(ones(1), v)])
        optimizer.learning_rate = schedules.PiecewiseConstantDecay([3], [8.0, 4.0])
        optimizer.apply_gradients([(ones(1), v)])
        optimizer.apply_gradients([(ones(1), v)])
        return float(v[0])

    assert replicas.run(program) == [-13.75 * replicas.size] * replicas.size


def test_iterations_may_be_assigned(replicas):
    def program():
        v, optimizer = Variable([0.0]), SGD(1.0, decay=1.0)
        optimizer.apply_gradients([(ones(1), v)])
        optimizer.iterations.assign(3)
        result = optimizer.apply_gradients([(ones(1), v)])
        return float(v[0]), int(result), int(optimizer.iterations)

    assert replicas.run(program) == [(-1.25 * replicas.size, 4, 4)] * replicas.size


@pytest.mark.parametrize("kind", ["one pass", "stages", "NumPy"])
def test_values_assigned_alike_are_taken_over(replicas, kind):
    def program():
        v, w = Variable([1.0, 1.0], name="v"), Variable([1.0], name="w")
        optimizer = makers[kind]()
        pairs = [(np.zeros(2, "f4"), v), (np.zeros(1, "f4"), w)]
        optimizer.apply_gradients(pairs)
        v.assign([5.0, 6.0])
        optimizer.apply_gradients(pairs)
        v.assign_add([1.0, 1.0])
        w.assign([7.0])
        before = v.numpy().tolist()
        optimizer.apply_gradients(pairs)
        return before, v.numpy().tolist(), w.numpy().tolist()

    makers = {
        "one pass": lambda: SGD(1.0),
        "stages": lambda: SGD(1.0, gradient_transformers=[lambda pairs: pairs]),
        "NumPy": lambda: programs.Momentum(1.0),
    }
    assert replicas.run(program) == [([6.0, 7.0], [6.0, 7.0], [7.0])] * replicas.size


def test_assigned_slots_are_taken_over(replicas):
    def program():
        v, optimizer = Variable([1.0]), SGD(1.0, momentum=0.5)
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
        optimizer.get_slot(v, "momentum").assign([4.0])
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
        optimizer.set_weights([np.int64(9), np.array([8.0], "f4")])
        optimizer.apply_gradients([(np.zeros(1, "f4"), v)])
        return float(v[0]), int(optimizer.iterations)

    assert replicas.run(program) == [(7.0, 10)] * replicas.size


def test_two_optimizers_on_the_same_variables(replicas):
    def program():
        v, w = Variable([1.0, 2.0], name="v"), Variable([3.0], name="w")
        first, second = SGD(0.5, momentum=0.5), programs.Momentum(0.25)
        pairs = [(np.full(2, 0.5, "f4"), v), (np.ones(1, "f4"), w)]
        for _ in range(2):
            first.apply_gradients(pairs)
            second.apply_gradients(pairs[:1])
        return [v.numpy().tolist(), w.numpy().tolist(), int(first.iterations), int(second.iterations)]

    n = replicas.size
    g = 0.5 * n
    moved = 0.5 * (g + 1.5 * g) + 0.25 * (g + 1.5 * g)
    want = [[1.0 - moved, 2.0 - moved], [3.0 - 0.5 * 2.5 * n], 2, 2]
    assert replicas.run(program) == [want] * n


def test_constraints_hold_on_every_replica(replicas):
    def program():
        v = Variable([1.0, 5.0], constraint=lambda w: np.maximum(w, 0.5), name="v")
        w = Variable(np.ones((3, 2), "f4"), constraint=distopt.keras.constraints.MaxNorm(0.5), name="w")
        optimizer = SGD(1.0)
        optimizer.apply_gradients([(ones(2), v), (np.zeros((3, 2), "f4"), w)])
        return v.numpy().tolist(), np.linalg.norm(w.numpy(), axis=0).round(5).tolist()

    want = ([0.5, max(0.5, 5.0 - replicas.size)], [0.5, 0.5])
    assert replicas.run(program) == [want] * replicas.size


def test_a_variable_twice_is_updated_twice(replicas):
    def program():
        v, optimizer = Variable([1.0]), SGD(1.0, momentum=0.5)
        optimizer.apply_gradients([(ones(1), v), (ones(1), v)])
        return float(v[0]), int(optimizer.iterations)

    # m = -n, w = 1 - n; then m = -1.5 n, w = 1 - 2.5 n
    assert replicas.run(program) == [(1 - 2.5 * replicas.size, 1)] * replicas.size


def test_gradients_are_not_written_to(replicas):
    def program():
        gradients = [np.full((3, 2), 2.0, "f4"), np.full(5, 2.0, "f4")]
        variables = [Variable(np.zeros_like(g)) for g in gradients]
        for clips in ({}, {"clipvalue": 1.0}, {"global_clipnorm": 0.5}, {"gradient_aggregator": "mean"}):
            Adam(**clips).apply_gradients(zip(gradients, variables))
        return [float(g.min()) for g in gradients] + [float(g.max()) for g in gradients]

    assert replicas.run(program) == [[2.0] * 4] * replicas.size


def test_gradients_of_any_memory_layout(replicas):
    def program():
        v = Variable(np.zeros((3, 4), "f4"))
        optimizer = SGD(1.0)
        base = np.arange(24, dtype="f4").reshape(4, 6)
        for g in (base[:, ::2].T, np.asfortranarray(base[:3, :4]), base[::-1][:3, 2:]):
            optimizer.apply_gradients([(g, v)])
        return v.numpy()

    base = np.arange(24, dtype="f4").reshape(4, 6)
    want = -(base[:, ::2].T + base[:3, :4] + base[::-1][:3, 2:]) * replicas.size
    for got in replicas.run(program):
        assert np.array_equal(got, want)


def test_big_variables_of_several_blocks(replicas):
    """More elements than one block of the engine has, in variables that no block boundary fits."""

    def program():
        shapes = [(300_007,), (3,), (513, 700)]
        variables = [Variable(np.ones(s, "f4"), name=f"v{i}") for i, s in enumerate(shapes)]
        optimizer = SGD(0.5, global_clipnorm=1e6)
        gradients = [(np.arange(np.prod(s)) % 97).reshape(s).astype("f4") for s in shapes]
        optimizer.apply_gradients(zip(gradients, variables))
        wrong = [
            int(np.sum(v.numpy() != 1 - 0.5 * programs.size() * g)) for v, g in zip(variables, gradients)
        ]
        return wrong, programs.fingerprint(optimizer, variables)

    results = replicas.run(program)
    assert [wrong for wrong, _ in results] == [[0, 0, 0]] * replicas.size
    assert len({mark for _, mark in results}) == 1
